// The shim of the runtimes `binary` and `image`: a generic instance that becomes one program, once and
// for ever. It speaks the runtime protocol (runtime-images/PROTOCOL.md), starts the program at init,
// and passes it its requests on $PORT.
//
//	shim
//	    the program is in the bundle, its environment is a clean one
//	shim [-port N] [-dir FOLDER] -- PROGRAM ARG…
//	    the program is that of an image, whose environment is ours
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const version = "1.0.0"

type state string

const (
	generic  state = "generic"
	loading  state = "loading"
	failed   state = "failed"
	ready    state = "ready"
	draining state = "draining"
)

// Shim is all that this process knows. The fields below mu are guarded by it.
type Shim struct {
	instance string
	nonce    string
	// A socket is in a folder of its instance alone; an address on a network is used again.
	overTCP bool
	// Of TCP; else 0.
	ownPort int
	image   *imageProgram
	logs    *Logger
	server  *http.Server
	// Where code goes that comes over the network; empty: it does not.
	codeFolder string

	mu       sync.Mutex
	state    state
	code     codePhase
	info     *initRequest
	slots    int
	inFlight map[int64]string
	taken    int64
	child    *Child
	proxy    http.Handler
	// How often SIGTERM came, since when nothing is in flight after it, and whether the end has begun.
	signals   int
	idleSince time.Time
	ending    bool
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(version)
		return
	}
	image, err := parseImageProgram(os.Args[1:])
	if err != nil {
		die("fn shim: %v", err)
	}
	socket, port := os.Getenv("FN_SOCKET"), os.Getenv("FN_PORT")
	shim := &Shim{
		instance:   os.Getenv("FN_INSTANCE"),
		nonce:      os.Getenv("FN_NONCE"),
		overTCP:    socket == "",
		image:      image,
		codeFolder: os.Getenv("FN_CODE"),
		state:      generic,
		code:       noCode,
		inFlight:   map[int64]string{},
	}
	shim.logs = newLogger(os.Stdout, shim.onlyRequest)
	// The other end is the gateway, which has limits on time of its own.
	shim.server = &http.Server{Handler: shim, MaxHeaderBytes: maxHeaderBytes, ErrorLog: quiet()}
	for _, name := range []string{"FN_INSTANCE", "FN_NONCE", "FN_SOCKET", "FN_PORT", "FN_CODE"} {
		os.Unsetenv(name)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGCHLD)
	go shim.onSignals(signals)
	listener, err := listen(socket, port)
	if err != nil {
		die("fn shim: cannot listen: %v", err)
	}
	if address, ok := listener.Addr().(*net.TCPAddr); ok {
		shim.ownPort = address.Port
	}
	go func() {
		if err := shim.server.Serve(listener); err != http.ErrServerClosed {
			die("fn shim: %v", err)
		}
	}()
	for start := range onMain {
		start()
	}
}

// The kernel kills the program when the thread that started it ends, lest it outlive its shim: so it
// is started by the first thread, which lives as long as the process does.
var onMain = make(chan func())

func init() {
	runtime.LockOSThread()
}

func listen(socket, port string) (net.Listener, error) {
	if socket == "" {
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, fmt.Errorf("neither FN_SOCKET nor FN_PORT is set")
		}
		return net.Listen("tcp", fmt.Sprintf(":%d", number))
	}
	// Whoever connects to it is told apart by the folder it is in. The mode comes with the socket: in a
	// sandbox (gVisor) it can only be made so, not changed.
	mask := syscall.Umask(0o111)
	defer syscall.Umask(mask)
	return net.Listen("unix", socket)
}

func die(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(2)
}

// ServeHTTP tells the shim's own paths from the function's. They are compared as they came.
func (s *Shim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	misdirected := s.misdirected(r.Header.Values("Fn-Instance"))
	if len(r.RequestURI) >= 5 && r.RequestURI[:5] == "/.fn/" {
		if s.overTCP && misdirected {
			refuse(w, "not-me")
			return
		}
		s.control(w, r)
		return
	}
	id := r.Header.Get("X-Request-Id")
	number, refusal := s.take(misdirected, &id)
	if refusal != "" {
		refuse(w, refusal)
		return
	}
	defer s.release(number)
	s.forward(w, r, id)
}

func refuse(w http.ResponseWriter, why string) {
	w.Header().Set("Fn-Refused", why)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusServiceUnavailable)
}

// Whether another instance is meant. Over TCP each request must say which: it may be for one that had our address before.
func (s *Shim) misdirected(meant []string) bool {
	if len(meant) == 0 {
		return s.overTCP
	}
	return meant[0] != s.instance
}

// Takes a slot; or says why not, before the program sees anything.
func (s *Shim) take(misdirected bool, id *string) (int64, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if misdirected || s.state == generic {
		return 0, "not-me"
	}
	if s.state != ready {
		return 0, "draining"
	}
	if len(s.inFlight) >= s.slots {
		return 0, "full"
	}
	s.taken++
	if *id == "" {
		*id = fmt.Sprintf("%s-%d", s.instance, s.taken)
	}
	s.inFlight[s.taken] = *id
	return s.taken, ""
}

func (s *Shim) release(number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, number)
	s.look()
}

// The request that a line of the program belongs to: known only where there is but one.
func (s *Shim) onlyRequest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inFlight) != 1 {
		return ""
	}
	for _, id := range s.inFlight {
		return id
	}
	return ""
}

func (s *Shim) onSignals(signals <-chan os.Signal) {
	for received := range signals {
		if received == syscall.SIGCHLD {
			s.reap()
			continue
		}
		s.terminate()
	}
}

// As pid 1 of a container we inherit every orphan; only the program's own end means anything.
func (s *Shim) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		s.mu.Lock()
		child := s.child
		s.mu.Unlock()
		if child != nil && child.pid == pid {
			child.ended(status)
			go s.onChildEnd(child, status)
		}
	}
}

// The program's end is the instance's, with its code, so that the platform can tell why. While it
// loads, init tells of it; while the instance ends, it was asked to.
func (s *Shim) onChildEnd(child *Child, status syscall.WaitStatus) {
	s.mu.Lock()
	expected := s.state == loading || s.state == failed || s.ending
	s.mu.Unlock()
	if expected {
		return
	}
	if status.Signaled() && status.Signal() == syscall.SIGKILL {
		// The kernel, most likely, at the memory limit. The engine hears of that in its own time: before it hears of our end.
		time.Sleep(oomDelay)
	}
	child.drainOutput()
	s.logs.system("warn", "the program ended: "+describe(status))
	s.logs.close()
	os.Exit(exitCode(status))
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("signal %d (%s)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1_000
}
