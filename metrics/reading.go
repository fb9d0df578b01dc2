package metrics

import "strings"

// Container names what is measured, in the words of ECS.
type Container struct {
	// ID is the runtime's container id, unique on the host. For a whole task it is the task's id.
	ID string
	// Name is the container's name in the task definition. It is empty when a whole task is measured; such readings are shown on
	// the host and not sent to ECS.
	Name string
	// TaskARN, Family and Revision name the task and its definition.
	TaskARN, Family, Revision string
}

// TaskID is the last part of the task's ARN.
func (c *Container) TaskID() string {
	return c.TaskARN[strings.LastIndexByte(c.TaskARN, '/')+1:]
}

// Reading is the newest that is known about one container.
type Reading struct {
	Container Container
	// Sample is the newest reading, its counters carried on over restarts of the container. Previous is the one before it; its
	// Time is zero if there was none.
	Sample, Previous Sample
	Rates            Rates
	// Restarts counts restarts by the container's restart policy; RestartPolicy says that it has one.
	Restarts      int
	RestartPolicy bool
	// Dropped counts readings that could not be believed.
	Dropped uint64
	// CPUs is the number of logical processors that Rates.CPUPercent refers to.
	CPUs int
}

// Rates are changes per second between the two newest samples. Before there are two, and for what is not measured, they are zero;
// Known says which is the case.
type Rates struct {
	Known bool
	// CPUPercent is the share of the whole host, 0 to 100.
	CPUPercent float64
	// RxBytesPerSecond and TxBytesPerSecond are network traffic.
	RxBytesPerSecond, TxBytesPerSecond float64
}
