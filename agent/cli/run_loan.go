package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/agent/wire/acs"
)

// loanPatience bounds one look for AWS credentials.
const loanPatience = 10 * time.Second

var errNoCredentials = errors.New("it takes too long")

// loan is what a cluster of our own lends its tasks: the AWS credentials of whoever runs. It is nil, and nobody looks for any, if
// nothing is signed; if something is, there must be some.
func loan(ctx context.Context, host *config.Config, signed []string, log *zap.Logger) (localcluster.Loan, error) {
	if len(signed) == 0 {
		return nil, nil
	}
	keys := daemon.HostCredentials(host, awsapi.NewMetadata(awsapi.MetadataConfig{
		Endpoint: host.AWS.MetadataEndpoint, Disabled: host.AWS.MetadataDisabled || host.External, Log: log.Named("metadata"),
	}))
	ctx = context.WithoutCancel(ctx)
	lend := func() (acs.IAMRoleCredentials, time.Time, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, loanPatience, errNoCredentials)
		defer cancel()
		got, err := keys.Retrieve(ctx)
		if err != nil {
			log.Error("cannot renew the credentials of the task", zap.Error(err))
			return acs.IAMRoleCredentials{}, time.Time{}, err
		}
		var expires time.Time
		if got.CanExpire {
			expires = got.Expires
		}
		return acs.IAMRoleCredentials{AccessKeyID: got.AccessKeyID, SecretAccessKey: got.SecretAccessKey, SessionToken: got.SessionToken}, expires, nil
	}
	if _, err := keys.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("the task definition needs AWS credentials (%s), and there are none: %w", strings.Join(signed, ", "), err)
	}
	return lend, nil
}
