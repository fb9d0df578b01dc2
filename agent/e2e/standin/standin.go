package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Key is what belongs to an access key: how it signs, and whose it is.
type Key struct {
	SecretAccessKey string `json:"secretAccessKey"`
	SessionToken    string `json:"sessionToken"`
	// Role is the ARN of the role, or the word "host".
	Role string `json:"role"`
}

// Config is what a Server is made of.
type Config struct {
	// Keys finds an access key; nil knows none.
	Keys func(ctx context.Context, accessKey string) (Key, bool)
}

// Call is a request that was signed well, whatever came of it.
type Call struct {
	// Service and Region are those of the signature, Operation is the API's name.
	Service, Operation, Region string
	// Role is whose key signed.
	Role string
}

// String is "OPERATION REGION ROLE".
func (c Call) String() string { return c.Operation + " " + c.Region + " " + c.Role }

// Server is all of AWS that tasks need. It may be used by many goroutines at once.
type Server struct {
	cfg      Config
	registry http.Handler
	ca       *authority

	mu         sync.Mutex // guards what follows
	parameters map[string]string
	secrets    map[string][]secret
	objects    map[string][]byte
	buckets    map[string]string
	logins     map[string]map[string]string
	metadata   map[string]string
	streams    map[string][]LogEvent
	groups     map[string]bool
	faults     map[string]*fault
	keys       map[string]Key // nil until there are some
	calls      []Call
	issued     int
}

// New makes a server that holds nothing.
func New(cfg Config) (*Server, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg: cfg, ca: ca, registry: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		parameters: map[string]string{}, secrets: map[string][]secret{}, objects: map[string][]byte{}, buckets: map[string]string{},
		logins: map[string]map[string]string{}, metadata: map[string]string{}, streams: map[string][]LogEvent{},
		groups: map[string]bool{}, faults: map[string]*fault{},
	}, nil
}

// Registry is the images' registry without a lock, for filling it.
func (s *Server) Registry() http.Handler { return s.registry }

// CAPEM is the certificate of the authority that the names behind the proxy are
// certified by.
func (s *Server) CAPEM() []byte { return s.ca.pem }

// Calls are the calls to a service so far, in their order.
func (s *Server) Calls(service string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var some []Call
	for _, c := range s.calls {
		if c.Service == service {
			some = append(some, c)
		}
	}
	return some
}

// ServeHTTP is the endpoint of everything, and the proxy to it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, isMetadata := metadataPath(r.URL.Path)
	switch {
	case r.Method == http.MethodConnect:
		s.serveProxy(w, r)
	case strings.HasPrefix(r.URL.Path, "/_standin/"):
		s.serveControl(w, r)
	case r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/"):
		s.serveRegistry(w, r)
	case isMetadata:
		s.serveMetadata(w, r, path)
	default:
		s.serveSigned(w, r)
	}
}

// request is a call whose signature was good.
type request struct {
	*http.Request

	body []byte
	Call
}

// decode reads the JSON of a call.
func (r *request) decode(into any) error { return json.Unmarshal(r.body, into) }

// serveSigned checks the signature and calls the service.
func (s *Server) serveSigned(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	auth, key, err := s.verify(r, body)
	if err != nil {
		service := "s3"
		if auth != nil {
			service = auth.service
		}
		refuse(w, service, http.StatusForbidden, "InvalidSignatureException", err.Error())
		return
	}
	call := &request{Request: r, body: body, Call: Call{Service: auth.service, Region: auth.region, Role: key.Role}}
	_, call.Operation, _ = strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if call.Service == "s3" {
		call.Operation = objectOperation(r)
	}
	s.mu.Lock()
	s.calls = append(s.calls, call.Call)
	s.mu.Unlock()
	if s.misbehave(w, call) {
		return
	}
	s.dispatch(w, call)
}

func (s *Server) dispatch(w http.ResponseWriter, r *request) {
	switch r.Service + " " + r.Operation {
	case "ssm GetParameters":
		s.getParameters(w, r)
	case "secretsmanager GetSecretValue":
		s.getSecretValue(w, r)
	case "ecr GetAuthorizationToken":
		s.getAuthorizationToken(w, r)
	case "logs CreateLogGroup", "logs CreateLogStream", "logs PutLogEvents", "logs DescribeLogStreams":
		s.serveLogs(w, r)
	case "s3 HeadBucket", "s3 GetObject":
		s.serveObject(w, r)
	default:
		refuse(w, r.Service, http.StatusBadRequest, "UnknownOperationException", "this stand-in has no "+r.Service+" "+r.Operation)
	}
}

// answer writes the JSON of an answer.
func answer(w http.ResponseWriter, what any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(what); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", "standin")
	_, _ = w.Write(b.Bytes()) // The client may have left.
}

// refuse writes an error as the service would: S3 in XML, all others in JSON.
func refuse(w http.ResponseWriter, service string, status int, code, message string) {
	if service == "s3" {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message) // The client may have left.
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Errortype", code)
	w.Header().Set("X-Amzn-Requestid", "standin")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message}) // The client may have left.
}
