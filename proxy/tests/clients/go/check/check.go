// Package check has what the programs beside it share: they stop at the first thing that is not as it should be.
package check

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// That stops the program unless ok holds.
func That(ok bool, format string, args ...any) {
	if ok {
		return
	}
	_, file, line, _ := runtime.Caller(1)
	if strings.HasSuffix(file, "check.go") {
		_, file, line, _ = runtime.Caller(2)
	}
	fmt.Fprintf(os.Stderr, "%s:%d: %s\n", file, line, fmt.Sprintf(format, args...))
	os.Exit(1)
}

// Fine stops the program at an error.
func Fine(err error) {
	That(err == nil, "%v", err)
}

// Value is the value of a call that must not fail.
func Value[T any](value T, err error) T {
	That(err == nil, "%v", err)
	return value
}

// Same stops the program when two values differ.
func Same[T comparable](got, wanted T) {
	That(got == wanted, "got %v, wanted %v", got, wanted)
}

// WantsCut says whether the program is to have its connections cut.
func WantsCut() bool {
	return os.Getenv("CUT_DONE") != ""
}

// Cut asks for all connections to be cut, and returns when they are.
func Cut() {
	fmt.Println("cut")
	for range 5000 {
		if _, err := os.Stat(os.Getenv("CUT_DONE")); err == nil {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	That(false, "nobody cuts the connections")
}

// Blob is 300 KB of every byte value.
func Blob() []byte {
	blob := make([]byte, 300_000)
	for i := range blob {
		blob[i] = byte(i * 31 >> 8)
	}
	return blob
}

// Intact stops the program when bytes have changed on their way.
func Intact(got, wanted []byte) {
	That(bytes.Equal(got, wanted), "%d bytes came back, not the same as the %d that went", len(got), len(wanted))
}

// Fails stops the program unless err has these words.
func Fails(err error, words string) {
	That(err != nil && strings.Contains(err.Error(), words), "got %v, wanted an error with %q", err, words)
}
