package awsapi

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/berthd/berth/runtime/backoff"
)

// How DescribeTags is called, spec/control-plane.md §1.5.
const (
	tagsTimeout  = 30 * time.Second
	tagsAttempts = 5
	tagsPause    = 500 * time.Millisecond
)

// InstanceTagsConfig says whose tags to ask for. All but Endpoint and Proxy must
// be set.
type InstanceTagsConfig struct {
	Credentials *Credentials
	Region      string
	InstanceID  string
	// Endpoint replaces that of EC2 in the region.
	Endpoint string
	// Proxy is as in http.Transport.
	Proxy func(*http.Request) (*url.URL, error)
}

// InstanceTags are the tags of an EC2 instance without those of AWS itself, which
// nobody else may set. The map is the caller's.
func InstanceTags(ctx context.Context, cfg InstanceTagsConfig) (map[string]string, error) {
	if cfg.InstanceID == "" {
		return nil, errors.New("cannot ask for the tags of the instance: this is no EC2 instance, or its metadata does not say which")
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = "https://ec2." + cfg.Region + ".amazonaws.com"
		if strings.HasPrefix(cfg.Region, "cn-") {
			cfg.Endpoint += ".cn"
		}
	}
	transport := &http.Transport{Proxy: cfg.Proxy, DisableKeepAlives: true}
	client := &http.Client{Timeout: tagsTimeout, Transport: transport}
	signer := NewSigner(cfg.Credentials, cfg.Region, "ec2")
	for n, pause := 1, tagsPause; ; n, pause = n+1, 2*pause {
		tags, again, err := describeTags(ctx, client, signer, &cfg)
		if err == nil {
			return tags, nil
		}
		if !again || n == tagsAttempts {
			return nil, fmt.Errorf("cannot call DescribeTags: %w", err)
		}
		if !backoff.Wait(ctx, backoff.Jittered(pause, pause/5)) {
			return nil, fmt.Errorf("cannot call DescribeTags: %w", context.Cause(ctx))
		}
	}
}

// describeTags makes one call; again says that another one may go well.
func describeTags(ctx context.Context, client *http.Client, signer *Signer, cfg *InstanceTagsConfig) (tags map[string]string, again bool, err error) {
	body := url.Values{
		"Action": {"DescribeTags"}, "Version": {"2016-11-15"}, "MaxResults": {"50"},
		"Filter.1.Name": {"resource-id"}, "Filter.1.Value.1": {cfg.InstanceID},
		"Filter.2.Name": {"resource-type"}, "Filter.2.Value.1": {"instance"},
	}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, cfg.Endpoint+"/", strings.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if err := signer.SignRequest(ctx, r, []byte(body)); err != nil {
		return nil, false, err
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, true, err
	}
	defer response.Body.Close() //nolint:errcheck // It was read to its end, or is of no use.
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, true, err
	}
	if response.StatusCode != http.StatusOK {
		var refusal struct {
			Code    string `xml:"Errors>Error>Code"`
			Message string `xml:"Errors>Error>Message"`
		}
		_ = xml.Unmarshal(answer, &refusal) // What is no XML has neither.
		throttled := refusal.Code == "RequestLimitExceeded" || refusal.Code == "Throttling"
		return nil, throttled || response.StatusCode >= http.StatusInternalServerError,
			fmt.Errorf("status %d: %s: %s", response.StatusCode, refusal.Code, refusal.Message)
	}
	var found struct {
		Items []struct {
			Key   string `xml:"key"`
			Value string `xml:"value"`
		} `xml:"tagSet>item"`
	}
	if err := xml.Unmarshal(answer, &found); err != nil {
		return nil, false, fmt.Errorf("cannot read the answer: %w", err)
	}
	tags = make(map[string]string, len(found.Items))
	for _, t := range found.Items {
		if !reserved(t.Key) && !reserved(t.Value) {
			tags[t.Key] = t.Value
		}
	}
	return tags, false, nil
}

// reserved says that a key or value is one that only AWS may write.
func reserved(s string) bool { return strings.HasPrefix(strings.ToLower(s), "aws:") }
