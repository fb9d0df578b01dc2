package resources

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
)

// Objects are S3's.
type Objects interface {
	// BucketRegion says where a bucket is.
	BucketRegion(ctx context.Context, keys credentials.Set, bucket string) (string, error)
	// Object reads an object of a bucket in a region into memory.
	Object(ctx context.Context, keys credentials.Set, region, bucket, key string) ([]byte, error)
}

// environmentFiles are the files of variables in S3, spec/task-engine.md §5.9.
// They are read into memory and never written to a disk of the host: there is no
// directory to clean up, and a restarted agent reads them again.
type environmentFiles struct {
	fetched
	keys    Keys
	objects Objects
}

func (e *environmentFiles) wants(d *task.Definition) bool {
	for i := range d.Containers {
		if len(d.Containers[i].EnvironmentFiles) > 0 {
			return true
		}
	}
	return false
}

// provision reads every file of the task once, all at the same time, with its
// execution role.
func (e *environmentFiles) provision(ctx context.Context, t *Task) (outfits, error) {
	keys, err := executionKeys(ctx, e.keys, t.Definition)
	if err != nil {
		return nil, fmt.Errorf("environment file resource: %w", err)
	}
	files, order := map[string]*environmentFile{}, []string(nil)
	for i := range t.Definition.Containers {
		for _, arn := range t.Definition.Containers[i].EnvironmentFiles {
			if files[arn] == nil {
				files[arn] = &environmentFile{}
				order = append(order, arn)
			}
		}
	}
	var group errgroup.Group
	group.SetLimit(callsAtOnce)
	for arn, file := range files {
		group.Go(func() error {
			file.variables, file.err = e.read(ctx, keys, t.Definition.ARN, arn)
			return nil
		})
	}
	_ = group.Wait() // Each file has its own error.
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var wrong []string
	for _, arn := range order {
		if err := files[arn].err; err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, ";"))
	}
	all := outfits{}
	for i := range t.Definition.Containers {
		c := &t.Definition.Containers[i]
		for _, arn := range c.EnvironmentFiles {
			o := all.of(c.Name)
			o.fileEnv = append(o.fileEnv, files[arn].variables...)
		}
	}
	return all, nil
}

// environmentFile is what was read.
type environmentFile struct {
	variables []string
	err       error
}

// objectARN is arn:PARTITION:s3:::BUCKET/KEY.
var objectARN = regexp.MustCompile(`^arn:([^:]+):s3:::([^/]+)/(.+)$`)

// read reads and parses one file.
func (e *environmentFiles) read(ctx context.Context, keys credentials.Set, taskARN, arn string) ([]string, error) {
	m := objectARN.FindStringSubmatch(arn)
	if m == nil {
		return nil, fmt.Errorf("unable to parse bucket and key from s3 ARN specified in environmentFile %s, error: invalid s3 arn: %s", arn, arn)
	}
	bucket, key := m[2], m[3]
	region, err := e.objects.BucketRegion(ctx, keys, bucket)
	if err != nil {
		return nil, fmt.Errorf("unable to initialize s3 client for bucket %s, error: %w", bucket, err)
	}
	data, err := e.objects.Object(ctx, keys, region, bucket, key)
	if err != nil {
		return nil, fmt.Errorf("unable to download env file with key %s from bucket %s, error: %w", key, bucket, err)
	}
	variables, err := parseEnvironment(data)
	if err != nil {
		return nil, fmt.Errorf("resource cannot be initialized for task %s: cannot read environment file %s: %w", taskARN, arn, err)
	}
	return variables, nil
}

var errZeroByte = errors.New("it has a zero byte, which no environment variable can hold")

// parseEnvironment reads the K=V lines of a file. A line is a comment only if # is
// its first character; nothing is trimmed, unquoted or expanded. Of a name that
// comes twice the last counts. Lines end with LF or CRLF, and may have 64 KiB.
func parseEnvironment(data []byte) ([]string, error) {
	var variables []string
	at := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := lines.Text()
		key, _, ok := strings.Cut(line, "=")
		if !ok || key == "" || line[0] == '#' {
			continue
		}
		if strings.ContainsRune(line, 0) {
			return nil, errZeroByte
		}
		if i, twice := at[key]; twice {
			variables[i] = line
			continue
		}
		at[key] = len(variables)
		variables = append(variables, line)
	}
	return variables, lines.Err()
}
