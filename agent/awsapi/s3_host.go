package awsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/berthd/berth/agent/credentials"
)

// HostObject reads an object with the host's own keys, at most limit bytes, wherever the bucket is. It takes as long as ctx lets it. The
// error matches fs.ErrNotExist when there is none; S3 says 403 of that to those who may not list the bucket.
func (s *Services) HostObject(ctx context.Context, bucket, key string, limit int64) ([]byte, error) {
	client := *s.objects
	client.Timeout = 0
	read := func(region string) ([]byte, error) {
		c := s.object(credentials.Set{}, region, bucket, key)
		c.operation, c.keys, c.limit, c.client = "GetObject", s.cfg.Credentials, limit, &client
		data, _, err := c.do(ctx)
		return data, err
	}
	data, err := read("")
	refused, is := errors.AsType[*refusedError](err)
	if is {
		if region := refused.header.Get(bucketRegionHeader); region != "" && region != s.region("") {
			data, err = read(region)
			refused, is = errors.AsType[*refusedError](err)
		}
	}
	switch {
	case is && refused.status == http.StatusNotFound:
		return nil, absentError{err}
	case is && refused.status == http.StatusForbidden:
		return nil, absentError{fmt.Errorf("%w (either it is not there, or the host's role may not s3:GetObject it)", err)}
	}
	return data, err
}
