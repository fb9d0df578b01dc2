package awsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/berthd/berth/agent/credentials"
)

// maxObject bounds what is read into memory of an object: configuration, not data.
const maxObject = 16 << 20

// bucketRegionHeader is how S3 says where a bucket is, also to those who may not
// have it and those who asked in another region.
const bucketRegionHeader = "X-Amz-Bucket-Region"

// errSlow ends the reading of an object.
var errSlow = fmt.Errorf("no answer within %s", objectTimeout)

// object is a call to S3 about a bucket, or with a key about an object.
func (s *Services) object(keys credentials.Set, region, bucket, key string) *call {
	region = s.region(region)
	base := s.base(serviceS3, region)
	switch own := s.cfg.Endpoint(serviceS3) != ""; {
	case !own && !strings.Contains(bucket, "."):
		base = strings.Replace(base, "://", "://"+bucket+".", 1) + "/"
	default:
		// What stands in for S3 has no name for each bucket, and no certificate is good
		// for a bucket with a dot.
		base = strings.TrimRight(base, "/") + "/" + escape(bucket)
		if key != "" {
			base += "/"
		}
	}
	return &call{
		id: "S3", service: serviceS3, region: region, url: base + escape(key), keys: keysOf(keys), client: s.objects,
		method: http.MethodGet, limit: maxObject,
	}
}

// escape writes a key as S3 signs it: all but slashes and what never needs it.
func escape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(key), "+", "%20"), "%2F", "/")
}

// BucketRegion asks S3 where a bucket is.
func (s *Services) BucketRegion(ctx context.Context, keys credentials.Set, bucket string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, objectTimeout, errSlow)
	defer cancel()
	c := s.object(keys, "", bucket, "")
	c.operation, c.method = "HeadBucket", http.MethodHead
	_, header, err := c.do(ctx)
	refused, is := errors.AsType[*refusedError](err)
	if is {
		header = refused.header
	}
	switch region := header.Get(bucketRegionHeader); {
	case region != "":
		return region, nil
	case is && refused.status == http.StatusNotFound:
		return "", absentError{err}
	}
	return s.region(""), err
}

// Object reads an object of a bucket in a region into memory. The error matches
// fs.ErrNotExist when there is none.
func (s *Services) Object(ctx context.Context, keys credentials.Set, region, bucket, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, objectTimeout, errSlow)
	defer cancel()
	c := s.object(keys, region, bucket, key)
	c.operation = "GetObject"
	data, _, err := c.do(ctx)
	if refused, ok := errors.AsType[*refusedError](err); ok && refused.status == http.StatusNotFound {
		return nil, absentError{err}
	}
	return data, err
}
