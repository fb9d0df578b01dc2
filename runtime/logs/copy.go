package logs

import (
	"fmt"
	"strconv"
)

// The options of the local copy that goes with every remote driver, as Docker
// names them.
const (
	optCacheDisabled = "cache-disabled"
	optCacheMaxSize  = "cache-max-size"
	optCacheMaxFile  = "cache-max-file"
	optCacheCompress = "cache-compress"
)

// The local copy when nobody says otherwise: less than Docker's, for here it
// also grows by what the far end does not take.
const (
	copyFileSize = 5 << 20
	copyFiles    = 4
)

func cacheOptions() []string {
	return []string{optCacheDisabled, optCacheMaxSize, optCacheMaxFile, optCacheCompress}
}

// parseCache answers how large the copy's files grow and how many are kept of
// what the far end has taken: one when the copy is not wanted, for it is being
// written. The copy is never compressed.
func parseCache(options map[string]string) (rotation, error) {
	rules := rotation{maxSize: copyFileSize, maxFiles: copyFiles}
	for _, name := range []string{optCacheDisabled, optCacheCompress} {
		if text, ok := options[name]; ok {
			if _, err := strconv.ParseBool(text); err != nil {
				return rules, fmt.Errorf("%w: %s=%q is not true or false", ErrOptions, name, text)
			}
		}
	}
	if text, ok := options[optCacheMaxSize]; ok {
		size, err := parseSize(optCacheMaxSize, text)
		if err != nil {
			return rules, err
		}
		if size == 0 {
			return rules, fmt.Errorf("%w: %s=%q must be positive", ErrOptions, optCacheMaxSize, text)
		}
		rules.maxSize = size
	}
	if text, ok := options[optCacheMaxFile]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return rules, fmt.Errorf("%w: %s=%q is not a number of files", ErrOptions, optCacheMaxFile, text)
		}
		rules.maxFiles = n
	}
	if copyDisabled(options) {
		rules.maxFiles = 1
	}
	return rules, nil
}

// copyDisabled says that the log is not to be read on this host.
func copyDisabled(options map[string]string) bool {
	off, err := strconv.ParseBool(options[optCacheDisabled])
	return err == nil && off
}
