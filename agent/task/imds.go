package task

// LabelAllowIMDS is the Docker label by which a container may reach the instance
// metadata service on a host that closes it to tasks: "true" opens it.
const LabelAllowIMDS = "berth.allow-imds"

// AllowsIMDS says whether the container has the label.
func (c *Container) AllowsIMDS() bool { return c.Spec.Labels[LabelAllowIMDS] == "true" }

// AllowsIMDS says whether any container of the task has it: containers that share
// a network namespace cannot be told apart.
func (d *Definition) AllowsIMDS() bool {
	for i := range d.Containers {
		if d.Containers[i].AllowsIMDS() {
			return true
		}
	}
	return false
}
