package awslogs

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/durable"
)

// keysName is the file of a container's keys, in its directory in memory.
const keysName = "keys"

// kept is a keyring that keeps its keys in a file which is in memory, for a log
// process that is started anew while nobody else has them. One goroutine uses it.
type kept struct {
	keyring

	file string
	log  *zap.Logger
	last string // the access key that the file has
}

// Retrieve answers keys that are good now; those of the file if there are no
// others.
func (k *kept) Retrieve(ctx context.Context) (aws.Credentials, error) {
	keys, err := k.keyring.Retrieve(ctx)
	if err != nil {
		if old, ok := k.load(); ok {
			return old, nil
		}
		return keys, err
	}
	if keys.AccessKeyID != k.last {
		if err := k.save(keys); err != nil {
			k.log.Debug("cannot keep the keys of the execution role", zap.Error(err))
		}
		k.last = keys.AccessKeyID
	}
	return keys, nil
}

// Forget drops the keys, those of the file too.
func (k *kept) Forget() {
	k.keyring.Forget()
	_ = os.Remove(k.file) // it may not be there
	k.last = ""
}

// load reads the file; ok is false for keys that have ended.
func (k *kept) load() (keys aws.Credentials, ok bool) {
	data, err := os.ReadFile(k.file)
	if err != nil || json.Unmarshal(data, &keys) != nil {
		return aws.Credentials{}, false
	}
	return keys, keys.HasKeys() && (!keys.CanExpire || time.Now().Before(keys.Expires))
}

// save replaces the file.
func (k *kept) save(keys aws.Credentials) error {
	data, err := json.Marshal(keys)
	if err != nil {
		return fmt.Errorf("cannot encode keys: %w", err)
	}
	return durable.ReplaceWhole(k.file, data, 0o600)
}
