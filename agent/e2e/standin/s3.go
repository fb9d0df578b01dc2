package standin

import (
	"net/http"
	"strings"
)

// PutObject makes an object, and its bucket in a region.
func (s *Server) PutObject(region, bucket, key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[bucket] = region
	s.objects[bucket+"/"+key] = data
}

// bucketAndKey reads both styles of address: the bucket in the name of the host,
// or in front of the path.
func bucketAndKey(r *http.Request) (bucket, key string) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	for _, service := range []string{".s3.", ".s3-fips."} {
		if name, rest, ok := strings.Cut(r.Host, service); ok && strings.Contains(rest, "amazonaws.com") {
			return name, path
		}
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

// objectOperation names a call to S3.
func objectOperation(r *http.Request) string {
	_, key := bucketAndKey(r)
	switch {
	case r.Method == http.MethodHead && key == "":
		return "HeadBucket"
	case r.Method == http.MethodGet && key != "":
		return "GetObject"
	}
	return r.Method
}

func (s *Server) serveObject(w http.ResponseWriter, r *request) {
	bucket, key := bucketAndKey(r.Request)
	s.mu.Lock()
	region, exists := s.buckets[bucket]
	data, found := s.objects[bucket+"/"+key]
	s.mu.Unlock()
	if !exists {
		refuse(w, r.Service, http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
		return
	}
	w.Header().Set("X-Amz-Bucket-Region", region)
	switch {
	case region != r.Region:
		refuse(w, r.Service, http.StatusMovedPermanently, "PermanentRedirect", "The bucket is in another region.")
	case r.Operation == "HeadBucket":
		w.WriteHeader(http.StatusOK)
	case !found:
		refuse(w, r.Service, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	default:
		_, _ = w.Write(data) // The client may have left.
	}
}
