package standin

import (
	"net/http"
	"strings"
)

// Account is whose everything is.
const Account = "111122223333"

// PutParameter makes a parameter of Parameter Store.
func (s *Server) PutParameter(region, name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parameters[region+" "+name] = value
}

// parameterARN is the ARN of a parameter: a slash in front of a name is not told
// apart from none.
func parameterARN(region, name string) string {
	return "arn:aws:ssm:" + region + ":" + Account + ":parameter/" + strings.TrimPrefix(name, "/")
}

func (s *Server) getParameters(w http.ResponseWriter, r *request) {
	var in struct {
		Names          []string
		WithDecryption bool
	}
	if err := r.decode(&in); err != nil || len(in.Names) == 0 || len(in.Names) > 10 || !in.WithDecryption {
		refuse(w, r.Service, http.StatusBadRequest, "ValidationException", "names must have 1 to 10 members, and be decrypted")
		return
	}
	type parameter struct{ Name, ARN, Value, Type, Selector string }
	out := struct {
		Parameters        []parameter
		InvalidParameters []string
	}{[]parameter{}, []string{}}
	seen := map[string]bool{}
	for _, asked := range in.Names {
		if seen[asked] {
			refuse(w, r.Service, http.StatusBadRequest, "ValidationException", "names has duplicates")
			return
		}
		seen[asked] = true
		name, value, ok := s.parameter(r.Region, asked)
		if !ok {
			out.InvalidParameters = append(out.InvalidParameters, asked)
			continue
		}
		out.Parameters = append(out.Parameters, parameter{Name: name, ARN: parameterARN(r.Region, name), Value: value, Type: "SecureString"})
	}
	answer(w, out)
}

// parameter finds a parameter by its name or ARN.
func (s *Server) parameter(region, asked string) (name, value string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, value := range s.parameters {
		in, name, _ := strings.Cut(key, " ")
		if in == region && (name == asked || parameterARN(region, name) == asked) {
			return name, value, true
		}
	}
	return "", "", false
}

// secret is a version of a secret.
type secret struct{ value, stage, version string }

// current is the stage of a version that nobody named another for.
const current = "AWSCURRENT"

// PutSecret makes a version of a secret of Secrets Manager; an empty stage is the
// current one.
func (s *Server) PutSecret(region, name, value, stage, version string) {
	if stage == "" {
		stage = current
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := region + " " + name
	s.secrets[key] = append([]secret{{value, stage, version}}, s.secrets[key]...)
}

func (s *Server) getSecretValue(w http.ResponseWriter, r *request) {
	var in struct{ SecretID, VersionStage, VersionID string }
	if err := r.decode(&in); err != nil || in.SecretID == "" {
		refuse(w, r.Service, http.StatusBadRequest, "ValidationException", "SecretId is missing")
		return
	}
	name := in.SecretID
	if fields := strings.Split(name, ":"); len(fields) == 7 {
		name = fields[6]
		if len(name) > 7 && name[len(name)-7] == '-' {
			name = name[:len(name)-7] // What Secrets Manager puts behind a name in an ARN.
		}
	}
	s.mu.Lock()
	versions := s.secrets[r.Region+" "+name]
	s.mu.Unlock()
	for _, v := range versions {
		stage := in.VersionStage
		if stage == "" && in.VersionID == "" {
			stage = current
		}
		if (stage == "" || stage == v.stage) && (in.VersionID == "" || in.VersionID == v.version) {
			answer(w, map[string]string{"ARN": in.SecretID, "Name": name, "SecretString": v.value, "VersionId": v.version})
			return
		}
	}
	refuse(w, r.Service, http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}
