// Package awsapi is the door to the AWS SDK: nothing else in the agent imports
// it. It finds the host's credentials (Credentials), asks the instance metadata
// service (Metadata), and signs requests, websocket upgrades and telemetry
// frames (Signer). The calls to ECS are made elsewhere, by hand, with what is
// signed here; the one call to EC2 is made here (InstanceTags), and so are those for
// what tasks need of Parameter Store, Secrets Manager, S3 and ECR (Services), each
// in the name of whose keys are given.
//
// Off EC2 there is no metadata service. That is found out once, within a second
// or two, said once, and answered with ErrNoMetadata from then on; on hardware of
// EC2, where it may only be late, it is tried again after a minute.
package awsapi
