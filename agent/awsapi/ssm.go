package awsapi

import (
	"context"

	"github.com/berthd/berth/agent/credentials"
)

// Parameters asks Systems Manager's Parameter Store for up to ten parameters,
// decrypted, each by its name or ARN, with or without a ":selector". The values
// are found under what was asked; what is not in the map does not exist.
func (s *Services) Parameters(ctx context.Context, keys credentials.Set, region string, names []string) (map[string]string, error) {
	in := struct {
		Names          []string
		WithDecryption bool
	}{names, true}
	var out struct {
		Parameters []struct {
			Name, ARN, Selector string
			Value               *string
		}
	}
	q := query{id: "SSM", service: serviceSSM, target: "AmazonSSM", operation: "GetParameters", region: region, keys: keysOf(keys)}
	if err := s.ask(ctx, q, in, &out); err != nil {
		return nil, err
	}
	found := make(map[string]string, len(out.Parameters))
	for _, p := range out.Parameters {
		if p.Value == nil {
			continue
		}
		// The service answers with the bare name and says by what it was selected; an
		// ARN is answered as such.
		for _, id := range []string{p.Name, p.ARN} {
			if id != "" {
				found[id] = *p.Value
				found[id+p.Selector] = *p.Value
			}
		}
	}
	values := make(map[string]string, len(names))
	for _, name := range names {
		if value, ok := found[name]; ok {
			values[name] = value
		}
	}
	return values, nil
}
