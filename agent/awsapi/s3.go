package awsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthd/berth/agent/credentials"
)

// maxObject bounds what is read into memory of an object: configuration, not data.
const maxObject = 16 << 20

// bucketRegionHeader is how S3 says where a bucket is, also to those who may not
// have it and those who asked in another region.
const bucketRegionHeader = "X-Amz-Bucket-Region"

// s3 is a client for buckets of a region.
func (s *Services) s3(keys credentials.Set, region string) *s3.Client {
	base := s.base("s3")
	return s3.New(s3.Options{
		Region: s.region(region), Credentials: keysOf(keys), HTTPClient: s.objects, BaseEndpoint: base,
		// What stands in for S3 at an address of its own has no name for each bucket.
		UsePathStyle:    base != nil,
		EndpointOptions: s3.EndpointResolverOptions{UseDualStackEndpoint: s.dualStack(), UseFIPSEndpoint: s.fips()},
		DisableLogOutputChecksumValidationSkipped: true,
	})
}

// BucketRegion asks S3 where a bucket is.
func (s *Services) BucketRegion(ctx context.Context, keys credentials.Set, bucket string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, objectTimeout, errSlow)
	defer cancel()
	out, err := s.s3(keys, "").HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket})
	if err == nil {
		return s.region(aws.ToString(out.BucketRegion)), nil
	}
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		if region := answer.Response.Header.Get(bucketRegionHeader); region != "" {
			return region, nil
		}
		if answer.HTTPStatusCode() == http.StatusNotFound {
			return "", absentError{err}
		}
	}
	return "", err
}

var errSlow = fmt.Errorf("no answer within %s", objectTimeout)

// Object reads an object of a bucket in a region into memory. The error matches
// fs.ErrNotExist when there is none.
func (s *Services) Object(ctx context.Context, keys credentials.Set, region, bucket, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, objectTimeout, errSlow)
	defer cancel()
	out, err := s.s3(keys, region).GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.HTTPStatusCode() == http.StatusNotFound {
			return nil, absentError{err}
		}
		return nil, err
	}
	defer out.Body.Close() //nolint:errcheck // It was read to its end, or is of no use.
	data, err := io.ReadAll(io.LimitReader(out.Body, maxObject+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the object: %w", err)
	}
	if len(data) > maxObject {
		return nil, fmt.Errorf("the object is larger than %d MiB", maxObject>>20)
	}
	return data, nil
}
