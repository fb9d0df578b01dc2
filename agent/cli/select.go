package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
)

// splitRef takes TASK/CONTAINER apart. An ARN holds slashes itself, so there the container is what follows the task's id.
func splitRef(ref string) (task, container string) {
	if !strings.HasPrefix(ref, "arn:") {
		task, container, _ = strings.Cut(ref, "/")
		return task, container
	}
	// arn:…:task/CLUSTER/ID, or the old arn:…:task/ID, and perhaps /CONTAINER.
	head, rest, ok := strings.Cut(ref, ":task/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 || len(parts) == 2 && !isID(parts[0]) {
		return ref, ""
	}
	if len(parts) == 2 || len(parts) == 3 {
		last := len(parts) - 1
		return head + ":task/" + strings.Join(parts[:last], "/"), parts[last]
	}
	return ref, ""
}

// isID tells whether s looks like the id of a task: 32 hex digits, or a UUID as it once was.
func isID(s string) bool {
	bare := strings.ReplaceAll(s, "-", "")
	return len(bare) == 32 && strings.Trim(bare, "0123456789abcdef") == ""
}

// containers asks for the task that ref means and answers the containers it means: the named one, or all that are the user's own.
func (a *app) containers(ctx context.Context, ref string) (hostapi.TaskView, []hostapi.ContainerView, error) {
	taskRef, name := splitRef(ref)
	t, err := a.client().Task(ctx, taskRef)
	if err != nil {
		return hostapi.TaskView{}, nil, err
	}
	var own []hostapi.ContainerView
	for _, c := range t.Containers {
		if name != "" && (c.Name == name || c.ID == name) {
			return t, []hostapi.ContainerView{c}, nil
		}
		if !c.Internal {
			own = append(own, c)
		}
	}
	if name != "" {
		return t, nil, &hostapi.Error{
			Code: hostapi.CodeNotFound, Message: fmt.Sprintf("task %s has no container %q", shortID(t.ID), name), Hint: "it has " + names(own),
		}
	}
	return t, own, nil
}

// container is containers for verbs that need exactly one.
func (a *app) container(ctx context.Context, ref string) (hostapi.ContainerView, error) {
	t, all, err := a.containers(ctx, ref)
	if err != nil {
		return hostapi.ContainerView{}, err
	}
	if len(all) != 1 {
		return hostapi.ContainerView{}, usage("task %s has %d containers: write TASK/CONTAINER with one of %s", shortID(t.ID), len(all), names(all))
	}
	return all[0], nil
}

func names(cs []hostapi.ContainerView) string {
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = c.Name
	}
	return strings.Join(out, ", ")
}

// shortID is as much of an id as people read.
func shortID(id string) string { return id[:min(len(id), 12)] }

// completion is how long the shell's user is made to wait for suggestions.
const completion = time.Second

// completeTasks suggests tasks for TASK arguments.
func (a *app) completeTasks(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, begun, false)
}

// completeContainer suggests TASK/CONTAINER for the first argument only.
func (a *app) completeContainer(cmd *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.complete(cmd, begun, true)
}

func (a *app) complete(cmd *cobra.Command, begun string, containers bool) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), completion, context.DeadlineExceeded)
	defer cancel()
	tasks, err := a.client().Tasks(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, t := range tasks {
		word := shortID(t.ID)
		if len(begun) > len(word) {
			word = t.ID
		}
		about := "\t" + t.Family + ":" + t.Revision + " " + strings.ToLower(t.KnownStatus)
		if !containers {
			out = append(out, word+about)
			continue
		}
		for _, c := range t.Containers {
			if !c.Internal {
				out = append(out, shortID(t.ID)+"/"+c.Name+about)
			}
		}
	}
	matching := out[:0]
	for _, o := range out {
		if strings.HasPrefix(o, begun) {
			matching = append(matching, o)
		}
	}
	return matching, cobra.ShellCompDirectiveNoFileComp
}
