package cli

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/config"
)

// masked stands where a secret was.
const masked = "***"

// scrubber takes secrets out of text: the ones that the settings hold, wherever they appear, and all that looks like one.
type scrubber struct {
	known *strings.Replacer
	looks []pattern
}

// pattern is what a secret looks like, and what stands in its place; that keeps the words around it.
type pattern struct {
	is *regexp.Regexp
	to string
}

// newScrubber knows the secrets of the settings.
func newScrubber(c *config.Config) *scrubber {
	var secrets []string
	add := func(values ...string) {
		for _, v := range values {
			// What is shorter would be found in ordinary words.
			if len(v) >= 6 && !slices.Contains(secrets, v) {
				secrets = append(secrets, v)
			}
		}
	}
	add(c.AWS.AccessKeyID.Reveal(), c.AWS.SecretAccessKey.Reveal(), c.AWS.SessionToken.Reveal(), c.Image.AuthData.Reveal())
	for _, proxy := range []string{c.Proxy.HTTP, c.Proxy.HTTPS} {
		if u, err := url.Parse(proxy); err == nil && u.User != nil {
			password, _ := u.User.Password()
			add(u.User.String(), password)
		}
	}
	var auth any
	if json.Unmarshal([]byte(c.Image.AuthData.Reveal()), &auth) == nil {
		add(leaves(auth)...)
	}
	// The longest first: one may be part of another.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, masked)
		if quoted, err := json.Marshal(s); err == nil && string(quoted) != `"`+s+`"` {
			pairs = append(pairs, string(quoted[1:len(quoted)-1]), masked)
		}
	}
	return &scrubber{known: strings.NewReplacer(pairs...), looks: patterns()}
}

// leaves are the texts in registry credentials, and what they hold in base64.
func leaves(v any) []string {
	var out []string
	switch v := v.(type) {
	case string:
		out = append(out, v)
		if plain, err := base64.StdEncoding.DecodeString(v); err == nil {
			user, password, _ := strings.Cut(string(plain), ":")
			out = append(out, string(plain), user, password)
		}
	case map[string]any:
		for _, one := range v {
			out = append(out, leaves(one)...)
		}
	case []any:
		for _, one := range v {
			out = append(out, leaves(one)...)
		}
	}
	return out
}

// patterns are what secrets look like.
func patterns() []pattern {
	return []pattern{
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`), masked},
		{regexp.MustCompile(`(?s)\A[A-Za-z0-9+/=\s]*-----END [A-Z ]*PRIVATE KEY-----`), masked}, // of which the beginning was cut off
		// Signed URLs.
		{regexp.MustCompile(`(?i)((?:X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId)(?:=|%3D))[^&\s"'\\]+`), "${1}" + masked},
		{regexp.MustCompile(`([a-z][a-z0-9+.-]*://)[^/\s"'@]+@`), "${1}" + masked + "@"},
		{regexp.MustCompile(`(?i)\b(Bearer|Basic|Splunk|AWS4-HMAC-SHA256)([ =])[^\s"',;]{6,}`), "${1}${2}" + masked},
		// name=value, name: value, "name": "value", --name value; the last part of the name says that it is a secret.
		{
			regexp.MustCompile(`(?i)((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key|auth[_-]?data|authorization|credentials?)\\?["']?\s*[:=]\s*)(?:\\"(?:[^"\\]|\\[^"])*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&"'\\]+)`),
			"${1}" + masked,
		},
		{regexp.MustCompile(`(?i)(--?[a-z0-9-]*(?:password|secret|token|api-?key)\s+)[^\s"']+`), "${1}" + masked},
		{regexp.MustCompile(`\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b`), masked},
		{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?`), masked},
		{regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abprs]-[A-Za-z0-9-]{10,}|sk_live_[A-Za-z0-9]{10,})`), masked},
		// Whoever knows the id of a task's credentials may ask for them.
		{regexp.MustCompile(`(/v2/credentials/|/v1/credentials/)[0-9a-zA-Z-]+`), "${1}" + masked},
	}
}

// keyShaped is what may be a secret access key of AWS: forty characters.
var keyShaped = regexp.MustCompile(`[A-Za-z0-9/+]{40,}`)

// scrub is the text without secrets.
func (s *scrubber) scrub(text string) string {
	text = s.known.Replace(text)
	for _, p := range s.looks {
		text = p.is.ReplaceAllString(text, p.to)
	}
	return keyShaped.ReplaceAllStringFunc(text, func(word string) string {
		// Digests and ids are hexadecimal, and paths have words: neither mixes so.
		if len(word) == 40 && strings.ContainsAny(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") && strings.ContainsAny(word, "ghijklmnopqrstuvwxyz") &&
			strings.ContainsAny(word, "0123456789") {
			return masked
		}
		return word
	})
}
