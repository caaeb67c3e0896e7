package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The program of an image, as its configuration names it.
type imageProgram struct {
	argv []string
	port int
	// Its working directory; empty: ours.
	folder string
}

var imageUsage = errors.New("usage: shim [-port N] [-dir FOLDER] -- PROGRAM ARG…")

// Null where there are no arguments: the program is in the bundle then.
func parseImageProgram(args []string) (*imageProgram, error) {
	if len(args) == 0 {
		return nil, nil
	}
	program := &imageProgram{}
	for ; len(args) >= 2 && args[0] != "--"; args = args[2:] {
		switch args[0] {
		case "-port":
			port, err := strconv.Atoi(args[1])
			if err != nil || port < 1 || port > 65_535 {
				return nil, fmt.Errorf("-port takes a number of 1 to 65535, not %q", args[1])
			}
			program.port = port
		case "-dir":
			if !filepath.IsAbs(args[1]) {
				return nil, fmt.Errorf("-dir takes an absolute path, not %q", args[1])
			}
			program.folder = args[1]
		default:
			return nil, imageUsage
		}
	}
	if len(args) < 2 || args[0] != "--" {
		return nil, imageUsage
	}
	program.argv = args[1:]
	return program, nil
}

// Child is the program that runs.
type Child struct {
	pid     int
	port    int
	address string
	// Closed when it has ended.
	done    chan struct{}
	status  syscall.WaitStatus
	outputs sync.WaitGroup
	tail    *tail
}

// Starts the program: that of the bundle, or of the image. Nothing of the platform's is in its environment.
func (s *Shim) start(request *initRequest) (*Child, *functionError) {
	env, folder, argv := s.bundleProgram(request)
	if s.image != nil {
		var failure *functionError
		if env, folder, argv, failure = s.imageProgram(request); failure != nil {
			return nil, failure
		}
	} else if failure := checkExecutable(argv[0], *request.Entry); failure != nil {
		return nil, failure
	}
	port, err := strconv.Atoi(env["PORT"])
	if err != nil || port < 1 || port > 65_535 {
		return nil, &functionError{"InvalidPort", fmt.Sprintf("the variable PORT is %q, which is no port", env["PORT"])}
	}
	if port == s.ownPort {
		message := fmt.Sprintf("the port %d is the one that this instance itself listens on: the program is to listen on another $PORT", port)
		return nil, &functionError{"InvalidPort", message}
	}
	child := &Child{port: port, done: make(chan struct{}), tail: &tail{}}
	files := []*os.File{nil}
	var ends []*os.File
	for range []int{1, 2} {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, &functionError{"StartError", "no pipe for its output: " + err.Error()}
		}
		files = append(files, write)
		ends = append(ends, read)
	}
	started := make(chan error)
	onMain <- func() { started <- s.spawn(child, argv, &os.ProcAttr{Dir: folder, Env: list(env), Files: files}) }
	err = <-started
	for _, file := range files[1:] {
		file.Close()
	}
	if err != nil {
		for _, file := range ends {
			file.Close()
		}
		return nil, startError(err, argv[0])
	}
	child.outputs.Add(2)
	go s.follow(child, ends[0], "out", "info")
	go s.follow(child, ends[1], "err", "error")
	return child, nil
}

// The lock is held while it starts: it may end before its pid is known here, and must not be missed.
func (s *Shim) spawn(child *Child, argv []string, attributes *os.ProcAttr) error {
	attributes.Sys = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.mu.Lock()
	defer s.mu.Unlock()
	process, err := os.StartProcess(argv[0], argv, attributes)
	if err == nil {
		child.pid = process.Pid
		s.child = child
	}
	return err
}

func (s *Shim) bundleProgram(request *initRequest) (map[string]string, string, []string) {
	tmp := os.Getenv("TMPDIR")
	if tmp == "" {
		tmp = "/tmp"
	}
	env := map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": tmp, "TMPDIR": tmp}
	for _, name := range []string{"TZ", "LANG"} {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
		}
	}
	addFunction(env, request, 0)
	return env, *request.Code, []string{filepath.Join(*request.Code, *request.Entry)}
}

// The environment of an image is the one that the container was started with.
func (s *Shim) imageProgram(request *initRequest) (map[string]string, string, []string, *functionError) {
	env := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	addFunction(env, request, s.image.port)
	folder, failure := s.imageFolder()
	if failure != nil {
		return nil, "", nil, failure
	}
	path, failure := lookUp(s.image.argv[0], env["PATH"], folder)
	if failure != nil {
		return nil, "", nil, failure
	}
	return env, folder, append([]string{path}, s.image.argv[1:]...), nil
}

// The folder is entered by the program's own process, without rights and without descriptors of ours: whoever
// starts the container has some of the host's, and a link in the image could lead to them.
func (s *Shim) imageFolder() (string, *functionError) {
	folder := s.image.folder
	if folder == "" {
		own, err := os.Getwd()
		if err != nil {
			return "", &functionError{"StartError", "the working directory cannot be told: " + err.Error()}
		}
		return own, nil
	}
	info, err := os.Stat(folder)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return "", &functionError{"StartError", fmt.Sprintf("the image's WORKDIR %s cannot be entered: %v", folder, err)}
	}
	return folder, nil
}

// `port`: what the image says it listens on; 0: nothing.
func addFunction(env map[string]string, request *initRequest, port int) {
	for name, value := range *request.Env {
		env[name] = value
	}
	if env["PORT"] == "" && port != 0 {
		env["PORT"] = strconv.Itoa(port)
	}
	if env["PORT"] == "" {
		env["PORT"] = strconv.Itoa(freePort())
	}
	if env["HOST"] == "" {
		env["HOST"] = "127.0.0.1"
	}
	env["FN_NAMESPACE"] = *request.Namespace
	env["FN_FUNCTION"] = *request.Name
	env["FN_REVISION"] = strconv.FormatFloat(*request.Number, 'f', -1, 64)
	env["FN_MEMORY_MIB"] = strconv.FormatFloat(*request.MemoryMib, 'f', -1, 64)
}

func list(env map[string]string) []string {
	pairs := make([]string, 0, len(env))
	for name, value := range env {
		pairs = append(pairs, name+"="+value)
	}
	sort.Strings(pairs)
	return pairs
}

// A container has all ports to itself; a plain process shares them with the machine.
func freePort() int {
	for _, port := range []int{usualPort, 0} {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer listener.Close()
		if address, ok := listener.Addr().(*net.TCPAddr); ok {
			return address.Port
		}
	}
	return usualPort
}

func checkExecutable(path, entry string) *functionError {
	info, err := os.Stat(path)
	if err != nil {
		return &functionError{"StartError", fmt.Sprintf("%s is not in the bundle", entry)}
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return &functionError{"StartError", fmt.Sprintf("%s is not an executable file (chmod +x, and deploy again)", entry)}
	}
	return nil
}

// As execvp: a name without a slash is looked for in PATH.
func lookUp(name, path, folder string) (string, *functionError) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(folder, name)
		}
		return name, nil
	}
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	for _, place := range filepath.SplitList(path) {
		candidate := filepath.Join(place, name)
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", &functionError{"StartError", fmt.Sprintf("the image's program %s is not found in its PATH (%s)", name, path)}
}

func startError(err error, path string) *functionError {
	name := filepath.Base(path)
	switch {
	case errors.Is(err, syscall.ENOENT):
		// The file is there: what is missing is what it is to be run by.
		return &functionError{"StartError", name + " cannot be started: the interpreter or dynamic loader that it names is not in the runtime's image; link it statically"}
	case errors.Is(err, syscall.ENOEXEC):
		return &functionError{"StartError", name + " is not an executable of this machine's kind"}
	case errors.Is(err, syscall.EACCES):
		return &functionError{"StartError", name + " may not be executed by the user 65532"}
	}
	return &functionError{"StartError", name + " cannot be started: " + err.Error()}
}

// Looks until the port accepts, the program ends, or the time is up.
func (c *Child) untilListening() *functionError {
	deadline := time.Now().Add(loadTimeout)
	for pause := firstLook; ; pause = shorter(pause*2, longestLook) {
		for _, host := range []string{"127.0.0.1", "::1"} {
			address := net.JoinHostPort(host, strconv.Itoa(c.port))
			connection, err := net.DialTimeout("tcp", address, lookTimeout)
			if err == nil {
				connection.Close()
				c.address = address
				return nil
			}
		}
		select {
		case <-c.done:
			c.drainOutput()
			message := fmt.Sprintf("the program ended (%s) before it listened on $PORT (%d)", describe(c.status), c.port)
			return &functionError{"ProcessExit", message + c.tail.words()}
		case <-time.After(pause):
		}
		if time.Now().After(deadline) {
			message := fmt.Sprintf("the program did not listen on $PORT (%d) within %d s", c.port, int(loadTimeout.Seconds()))
			return &functionError{"LoadTimeout", message + c.tail.words()}
		}
	}
}

func shorter(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}

func (c *Child) ended(status syscall.WaitStatus) {
	c.status = status
	close(c.done)
}

func (c *Child) terminate() {
	_ = syscall.Kill(c.pid, syscall.SIGTERM) // gone already: that is what was asked for
}

func (c *Child) kill() {
	_ = syscall.Kill(c.pid, syscall.SIGKILL) // as above
}

// What it wrote last is in its pipes; a grandchild may hold them open.
func (c *Child) drainOutput() {
	drained := make(chan struct{})
	go func() {
		c.outputs.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(logFlushTime):
	}
}
