package localcluster

import (
	"crypto/rand"
	"encoding/base64"
	"sync"
	"time"

	"github.com/berthd/berth/agent/wire/acs"
)

// Loan gives credentials that somebody really has, in place of what the vault
// makes up for roles, and when they expire.
type Loan func() (acs.IAMRoleCredentials, time.Time, error)

// vault makes up role credentials, or is lent them, and knows them, so that calls
// signed with them are believed. It keeps everything in memory.
type vault struct {
	accessKey, secretKey string // The server's own pair; empty means that anything goes.
	life                 time.Duration
	loan                 Loan // nil is none

	mu      sync.Mutex // Guards the two maps.
	current map[string]*issued
	secrets map[string]*issued // By access key, old sets too until they expire.
}

type issued struct {
	set     acs.IAMRoleCredentials
	expires time.Time
	lent    bool
}

func newVault(accessKey, secretKey string, life time.Duration) *vault {
	return &vault{accessKey: accessKey, secretKey: secretKey, life: life, current: map[string]*issued{}, secrets: map[string]*issued{}}
}

// issue gives the credentials of an id. They are new when there are none or the
// present ones are past half of their life.
func (v *vault) issue(id, roleARN string) *acs.IAMRoleCredentials {
	v.mu.Lock()
	defer v.mu.Unlock()
	have := v.current[id]
	if have == nil || time.Until(have.expires) < v.life/2 {
		have = v.mint(have)
		have.set.CredentialsID, have.set.RoleARN = id, roleARN
		have.set.Expiration = have.expires.UTC().Format(time.RFC3339)
		v.current[id] = have
		v.secrets[have.set.AccessKeyID] = have
	}
	set := have.set
	return &set
}

// mint gives credentials in place of what there is: lent ones if there are any to
// be had. The caller holds the lock.
func (v *vault) mint(have *issued) *issued {
	end := time.Now().Add(v.life)
	if v.loan != nil {
		set, expires, err := v.loan()
		switch {
		case err != nil && have != nil:
			return have // It may be good for a while yet.
		case err == nil && (expires.IsZero() || expires.After(end)):
			return &issued{set: set, expires: end, lent: true}
		case err == nil:
			return &issued{set: set, expires: expires, lent: true}
		}
	}
	return &issued{expires: end, set: acs.IAMRoleCredentials{
		AccessKeyID: "ASIA" + rand.Text()[:16], SecretAccessKey: rand.Text() + rand.Text()[:14],
		SessionToken: base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text())),
	}}
}

// retain forgets the credentials of all ids but these, and what has expired.
func (v *vault) retain(ids map[string]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := range v.current {
		if !ids[id] {
			delete(v.current, id)
		}
	}
	for key, have := range v.secrets {
		if time.Now().After(have.expires) {
			delete(v.secrets, key)
		}
	}
}

// secret finds the secret key of an access key that counts at this moment.
func (v *vault) secret(accessKey string) (string, bool) {
	if accessKey == v.accessKey && accessKey != "" {
		return v.secretKey, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	have := v.secrets[accessKey]
	if have == nil || time.Now().After(have.expires) {
		return "", false
	}
	return have.set.SecretAccessKey, true
}
