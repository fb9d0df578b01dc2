package ecs

// What every call has in common (spec control-plane §1.1).
const (
	// Target is the prefix of the X-Amz-Target header; the operation follows.
	Target = "AmazonEC2ContainerServiceV20141113."
	// TargetHeader is the name of the header that carries the operation.
	TargetHeader = "X-Amz-Target"
	// ContentType is the content type of requests and responses.
	ContentType = "application/x-amz-json-1.1"
	// ErrorTypeHeader repeats the error type outside of the body.
	ErrorTypeHeader = "X-Amzn-Errortype"
	// RequestIDHeader carries the id of a request in its response.
	RequestIDHeader = "X-Amzn-Requestid"
	// SigningName is the service name in SigV4 signatures, of the API and of
	// both websockets.
	SigningName = "ecs"
)

// The operations, as they follow Target.
const (
	OpCreateCluster                 = "CreateCluster"
	OpDeleteAttributes              = "DeleteAttributes"
	OpDeleteCluster                 = "DeleteCluster"
	OpDeregisterContainerInstance   = "DeregisterContainerInstance"
	OpDeregisterTaskDefinition      = "DeregisterTaskDefinition"
	OpDescribeClusters              = "DescribeClusters"
	OpDescribeContainerInstances    = "DescribeContainerInstances"
	OpDescribeTaskDefinition        = "DescribeTaskDefinition"
	OpDescribeTasks                 = "DescribeTasks"
	OpDiscoverPollEndpoint          = "DiscoverPollEndpoint"
	OpExecuteCommand                = "ExecuteCommand"
	OpGetTaskProtection             = "GetTaskProtection"
	OpListAttributes                = "ListAttributes"
	OpListClusters                  = "ListClusters"
	OpListContainerInstances        = "ListContainerInstances"
	OpListTagsForResource           = "ListTagsForResource"
	OpListTaskDefinitionFamilies    = "ListTaskDefinitionFamilies"
	OpListTaskDefinitions           = "ListTaskDefinitions"
	OpListTasks                     = "ListTasks"
	OpPutAttributes                 = "PutAttributes"
	OpRegisterContainerInstance     = "RegisterContainerInstance"
	OpRegisterTaskDefinition        = "RegisterTaskDefinition"
	OpRunTask                       = "RunTask"
	OpStartTask                     = "StartTask"
	OpStopTask                      = "StopTask"
	OpSubmitAttachmentStateChanges  = "SubmitAttachmentStateChanges"
	OpSubmitContainerStateChange    = "SubmitContainerStateChange"
	OpSubmitTaskStateChange         = "SubmitTaskStateChange"
	OpTagResource                   = "TagResource"
	OpUntagResource                 = "UntagResource"
	OpUpdateContainerAgent          = "UpdateContainerAgent"
	OpUpdateContainerInstancesState = "UpdateContainerInstancesState"
	OpUpdateTaskProtection          = "UpdateTaskProtection"
)
