package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

func quiet() *log.Logger {
	return log.New(io.Discard, "", 0)
}

// One request to the program. What only the platform may say is dropped in both directions, but for the mark of an
// event: by it the program can tell one from what a client sends.
func (s *Shim) forward(w http.ResponseWriter, r *http.Request, id string) {
	for name := range r.Header {
		if strings.HasPrefix(name, "Fn-") && name != "Fn-Event" {
			delete(r.Header, name)
		}
	}
	r.Header.Set("X-Request-Id", id)
	s.mu.Lock()
	proxy := s.proxy
	s.mu.Unlock()
	writer := &responseWriter{ResponseWriter: w}
	defer writer.stop()
	passed := r.Clone(r.Context())
	// Before it writes a response, Go's server waits for the rest of a request whose length is not 0: a body
	// that goes on while the answer does would never end. The program is to see all of it as it comes.
	r.ContentLength = 0
	proxy.ServeHTTP(writer, passed)
}

func newProxy(child *Child) http.Handler {
	dialer := &net.Dialer{}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", child.address)
		},
		// Bodies pass as they are.
		DisableCompression:  true,
		MaxIdleConnsPerHost: 1_000,
		IdleConnTimeout:     idleTimeout,
		WriteBufferSize:     32 * 1024,
		ReadBufferSize:      32 * 1024,
	}
	return &httputil.ReverseProxy{
		Director: func(r *http.Request) {
			r.URL.Scheme = "http"
			r.URL.Host = child.address
			// The path goes on as it came, byte for byte.
			if path, _, _ := strings.Cut(r.RequestURI, "?"); strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
				r.URL.Opaque = path
			}
			// The gateway has said who the client is; the connection to us is the gateway's own.
			r.RemoteAddr = ""
			if _, ok := r.Header["User-Agent"]; !ok {
				r.Header.Set("User-Agent", "") // else Go would name itself
			}
		},
		Transport:     transport,
		FlushInterval: -1,
		BufferPool:    &buffers{},
		ErrorLog:      quiet(),
		ModifyResponse: func(response *http.Response) error {
			for name := range response.Header {
				if strings.HasPrefix(name, "Fn-") {
					delete(response.Header, name)
				}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				panic(http.ErrAbortHandler) // the client went away
			}
			select {
			case <-child.done:
				// The instance ends with its program: the platform is to see that, not an answer of ours. The
				// connection breaks when this process ends, and no sooner, so that the reason is at hand by then.
				select {}
			case <-time.After(deathDelay):
			}
			detail := "The program broke off the connection without a valid answer: " + err.Error() + "."
			problem(w, http.StatusBadGateway, "function-bad-response", "The function sent an invalid response", detail, r.Header.Get("X-Request-Id"))
		},
	}
}

// The head of a response goes out with the first bytes of its body, or by itself where those take their time.
type responseWriter struct {
	http.ResponseWriter
	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func (w *responseWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ResponseWriter.WriteHeader(status)
	if status >= 200 && w.timer == nil {
		w.timer = time.AfterFunc(headDelay, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.flush()
		})
	}
}

func (w *responseWriter) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ResponseWriter.Write(data)
}

func (w *responseWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
}

// With the lock held.
func (w *responseWriter) flush() {
	if w.over {
		return
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	if flusher, ok := w.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}

// After it nothing of ours touches the response any more.
func (w *responseWriter) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// Hijack is for upgrades, which the proxy copies in both directions until one side ends.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hijacker, ok := w.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this connection cannot be upgraded")
	}
	return hijacker.Hijack()
}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().([]byte); ok {
		return buffer
	}
	return make([]byte, 32*1024)
}

func (b *buffers) Put(buffer []byte) {
	b.pool.Put(buffer) //nolint:staticcheck // a slice header per request is less than a buffer
}
