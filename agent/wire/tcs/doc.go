// Package tcs holds the messages of the telemetry service (TCS) as they are on
// the wire: spec/control-plane.md §5. It is words only.
//
// The service sends plain JSON envelopes. What the agent sends is one text
// frame of signed header lines, an empty line, and the envelope:
//
//	Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=host;x-amz-date, Signature=…
//	Host: ecs-t-3.eu-west-1.amazonaws.com
//	X-Amz-Date: 20250301T120000Z
//
//	{"type":"PublishMetricsRequest","message":{…}}
//
// Encode and Decode are for the envelope, EncodeFrame and DecodeFrame for what
// is around it.
package tcs
