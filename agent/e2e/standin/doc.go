// Package standin stands in for AWS on loopback: Parameter Store, Secrets
// Manager, S3, ECR with its registry, CloudWatch Logs and instance metadata, in
// one server. It makes every signature again and refuses what does not match,
// remembers which role signed each call (Calls), and misbehaves on demand
// (Fault).
//
// A service is known by the scope of the signature, so that one address serves
// all of them: as endpoint (AWS_ENDPOINT_URL), or as proxy (HTTPS_PROXY), where it
// takes on the name of whatever host is asked for, with certificates of its own
// authority. The second way exercises the real names of AWS.
//
// The program standin serves, and tells the server what to hold:
//
//	standin serve ADDRESS CAFILE ACCESS-KEY SECRET-KEY KEYS-URL
//	standin parameter REGION NAME VALUE
//	standin secret REGION NAME VALUE [STAGE [VERSION]]
//	standin object REGION BUCKET/KEY FILE
//	standin login HOST USER PASSWORD
//	standin metadata PATH [VALUE]
//	standin key ACCESS-KEY SECRET-KEY TOKEN ROLE
//	standin fault SERVICE throttle|error|denied|slow|none [TIMES]
//	standin calls SERVICE
//	standin logs GROUP STREAM
package standin
