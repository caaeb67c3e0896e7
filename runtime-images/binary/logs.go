package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

type line struct {
	T      int64  `json:"t"`
	Level  string `json:"level"`
	Stream string `json:"stream"`
	Msg    string `json:"msg"`
	Req    string `json:"req,omitempty"`
}

// Logger writes one JSON object per line, capped in size and rate. Who logs never waits for who reads.
type Logger struct {
	out     io.Writer
	request func() string

	mu       sync.Mutex
	queue    [][]byte
	bytes    int
	tokens   float64
	refilled time.Time
	dropped  int
	resume   time.Time
	wake     chan struct{}
}

func newLogger(out io.Writer, request func() string) *Logger {
	logger := &Logger{out: out, request: request, tokens: logBurstBytes, refilled: time.Now(), wake: make(chan struct{}, 1)}
	go logger.run()
	return logger
}

func (l *Logger) system(level, message string) {
	l.write(encode(level, "sys", message, ""))
}

func (l *Logger) write(data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.tokens += now.Sub(l.refilled).Seconds() * logRateBytes
	if l.tokens > logBurstBytes {
		l.tokens = logBurstBytes
	}
	l.refilled = now
	// Once lines are dropped it goes on for a while: one note for many lines, not one for each few.
	if l.tokens < float64(len(data)) || l.bytes+len(data) > maxLogBacklogBytes || (l.dropped > 0 && now.Before(l.resume)) {
		if l.dropped == 0 {
			l.resume = now.Add(logDropTime)
			time.AfterFunc(logDropTime, l.report)
		}
		l.dropped++
		return
	}
	l.tokens -= float64(len(data))
	l.note()
	l.put(data)
}

// Says how many lines were dropped, as soon as there is room for it.
func (l *Logger) report() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped > 0 && l.bytes > maxLogBacklogBytes-maxLogLineBytes {
		time.AfterFunc(logDropTime, l.report)
		return
	}
	l.note()
}

// With the lock held.
func (l *Logger) note() {
	if l.dropped == 0 {
		return
	}
	text := fmt.Sprintf("%d log lines were dropped: the function logs more than %d KiB/s, or nobody reads it", l.dropped, logRateBytes/1024)
	l.dropped = 0
	l.put(encode("warn", "sys", text, ""))
}

// With the lock held.
func (l *Logger) put(data []byte) {
	l.queue = append(l.queue, data)
	l.bytes += len(data)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Logger) run() {
	for range l.wake {
		for {
			l.mu.Lock()
			batch := l.queue
			l.queue = nil
			l.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			for _, data := range batch {
				_, _ = l.out.Write(data) // nobody reads it any more: there is nowhere to say so
				l.mu.Lock()
				l.bytes -= len(data)
				l.mu.Unlock()
			}
		}
	}
}

// Writes what waits, for a bounded time. Nothing may be logged after it.
func (l *Logger) close() {
	l.mu.Lock()
	l.note()
	l.mu.Unlock()
	for deadline := time.Now().Add(logFlushTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		empty := len(l.queue) == 0 && l.bytes == 0
		l.mu.Unlock()
		if empty {
			return
		}
	}
}

// Terminals obey DEL, C1 and the Unicode line ends too, and JSON does not escape them all.
func encode(level, stream, message, request string) []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	value := line{time.Now().UnixMilli(), level, stream, cut(strings.ToValidUTF8(message, "\ufffd"), maxLogLineBytes), request}
	if err := encoder.Encode(value); err != nil {
		panic(err) // a struct of texts can be written
	}
	if bytes.IndexFunc(buffer.Bytes(), isUnsafe) < 0 {
		return buffer.Bytes()
	}
	var safe bytes.Buffer
	for _, char := range buffer.String() {
		if isUnsafe(char) {
			fmt.Fprintf(&safe, `\u%04x`, char)
		} else {
			safe.WriteRune(char)
		}
	}
	return safe.Bytes()
}

func isUnsafe(char rune) bool {
	return (char >= 0x7f && char <= 0x9f) || char == 0x2028 || char == 0x2029
}

// At most so many bytes, and whole characters; what is longer says so.
func cut(message string, limit int) string {
	if len(message) <= limit {
		return message
	}
	note := fmt.Sprintf(" … (cut: %d bytes)", len(message))
	end := limit - len(note)
	for end > 0 && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + note
}

// Reads one stream of the program, a line at a time. Of a line that is too long only the beginning is kept.
func (s *Shim) follow(child *Child, from *os.File, stream, level string) {
	defer child.outputs.Done()
	defer from.Close()
	reader := bufio.NewReaderSize(from, 64*1024)
	for {
		text, length, err := readLine(reader)
		if length > 0 {
			message := strings.TrimSuffix(text, "\r")
			if length > len(text) {
				message = strings.ToValidUTF8(message[:maxLogLineBytes-maxNoteBytes], "") + fmt.Sprintf(" … (cut: %d bytes)", length)
			}
			if stream == "err" {
				child.tail.add(message)
			}
			if message != "" {
				s.logs.write(encode(level, stream, message, s.logs.request()))
			}
		}
		if err != nil {
			return
		}
	}
}

// A line without its end, at most maxLogLineBytes of it; and how long it was.
func readLine(reader *bufio.Reader) (string, int, error) {
	var kept []byte
	length := 0
	for {
		piece, err := reader.ReadSlice('\n')
		length += len(piece)
		if room := maxLogLineBytes - len(kept); room > 0 {
			if len(piece) < room {
				room = len(piece)
			}
			kept = append(kept, piece[:room]...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == nil {
			length--
			if len(kept) > 0 && kept[len(kept)-1] == '\n' {
				kept = kept[:len(kept)-1]
			}
			if length == 0 {
				continue
			}
		}
		return string(kept), length, err
	}
}

// The last lines of stderr, for where the program ends before it listens.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, text)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

func (t *tail) words() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.Join(t.lines, "\n")
	if text == "" {
		return ""
	}
	if len(text) > maxTailBytes {
		text = "…" + strings.ToValidUTF8(text[len(text)-maxTailBytes:], "")
	}
	return "; it said:\n" + text
}
