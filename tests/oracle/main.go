// Oracle: the real bbolt, as a judge over the files that boltfs reads and writes.
//
// It links Debian's golang-github-coreos-bbolt-dev from /usr/share/gocode; nothing is downloaded. Build it with
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o oracle tests/oracle/*.go
//
// `oracle serve` reads one JSON request a line from stdin and answers each with one JSON line on stdout, so that
// thousands of random edit scripts do not pay for a process start each. The same operations for the shell:
//
//	oracle dump FILE [hash]          content as nested JSON; with "hash", length and SHA-256 in place of the values
//	oracle check FILE [ro|rw-copy]   what bbolt's Tx.Check says, and a walk by cursor and look-up
//	oracle pages FILE                every page: id, type, items, overflow
//	oracle stats FILE                bbolt's statistics over all buckets
//	oracle edit FILE SCRIPT          SCRIPT: JSON, a list of transactions, each a list of edits
//	oracle bench-commit FILE SCRIPT  the same, and how long it took
//	oracle create FILE SPEC          SPEC: JSON, a seeded bulk database (see bulk.go)
//	oracle bench-update FILE SPEC    SPEC: JSON, one large transaction (see bench.go)
//	oracle bench-check FILE          Tx.Check alone
//
// A panic of bbolt is an answer like any other: its text is reported and the process ends, because the library's state is
// worth nothing after it. Tx.Check panics in a goroutine of its own, which nobody can recover: then the process dies
// with the text on stderr. Whoever serves from here has to start another one in both cases (tests/common/oracle.rs does).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// request is one line of `serve`. Op selects the operation; the other fields are its arguments.
type request struct {
	Op        string     `json:"op"`
	File      string     `json:"file"`
	Hash      bool       `json:"hash"`      // dump: length and SHA-256 in place of the values
	Mode      string     `json:"mode"`      // check: "ro" (default) or "rw-copy"
	Script    [][]edit   `json:"script"`    // edit, bench-commit: transactions
	Bulk      *bulk      `json:"bulk"`      // create
	Benchmark *benchmark `json:"benchmark"` // bench-update
	Options   options    `json:"options"`
}

// options of bbolt that the tests vary.
type options struct {
	PageSize       int     `json:"page_size"`     // of a file that is created; 0: the system's
	FreelistType   string  `json:"freelist_type"` // "array" (default) or "hashmap"
	NoFreelistSync bool    `json:"no_freelist_sync"`
	FillPercent    float64 `json:"fill_percent"` // 0: bbolt's default
	NoSync         bool    `json:"no_sync"`
	TimeoutMs      int     `json:"timeout_ms"` // for the lock; 0: two seconds
}

func (o options) bolt(readOnly bool) *bolt.Options {
	b := &bolt.Options{
		ReadOnly:       readOnly,
		PageSize:       o.PageSize,
		NoFreelistSync: o.NoFreelistSync,
		FreelistType:   bolt.FreelistArrayType,
		NoSync:         o.NoSync,
		NoGrowSync:     o.NoSync,
		Timeout:        2 * time.Second,
	}
	if o.FreelistType == "hashmap" {
		b.FreelistType = bolt.FreelistMapType
	}
	if o.TimeoutMs > 0 {
		b.Timeout = time.Duration(o.TimeoutMs) * time.Millisecond
	}
	return b
}

// answer is one line of output: exactly one of Result, Error and Panic is set.
type answer struct {
	Result interface{} `json:"result,omitempty"`
	Error  string      `json:"error,omitempty"`
	Panic  string      `json:"panic,omitempty"`
}

func main() {
	// Reading beyond the end of a mapped file is a panic with a text then, not the end of the process.
	debug.SetPanicOnFault(true)
	// A cycle of pages makes bbolt recurse for ever; Go's own limit of 1 GB takes seconds to reach.
	debug.SetMaxStack(64 << 20)
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		serve()
		return
	}
	req, err := fromArguments(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(2)
	}
	a := handle(req)
	out, err := json.MarshalIndent(a.Result, "", "  ")
	switch {
	case a.Error != "":
		fmt.Fprintln(os.Stderr, "oracle:", a.Error)
		os.Exit(1)
	case a.Panic != "":
		fmt.Fprintln(os.Stderr, "oracle: panic:", a.Panic)
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
	fmt.Println(string(out))
}

func serve() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	decoder := json.NewDecoder(in)
	encoder := json.NewEncoder(out)
	for {
		var req request
		if err := decoder.Decode(&req); err != nil {
			if err.Error() != "EOF" {
				fmt.Fprintln(os.Stderr, "oracle: bad request:", err)
				os.Exit(2)
			}
			return
		}
		a := handle(req)
		if err := encoder.Encode(a); err != nil {
			fmt.Fprintln(os.Stderr, "oracle: cannot write the answer:", err)
			os.Exit(2)
		}
		if err := out.Flush(); err != nil {
			os.Exit(2) // the caller is gone
		}
		if a.Panic != "" {
			os.Exit(3)
		}
	}
}

func handle(req request) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a = answer{Panic: fmt.Sprint(r)}
		}
	}()
	var result interface{}
	var err error
	switch req.Op {
	case "dump":
		result, err = dump(req)
	case "check":
		result, err = check(req)
	case "pages":
		result, err = pages(req)
	case "stats":
		result, err = stats(req)
	case "edit", "bench-commit":
		result, err = runScript(req)
	case "create":
		result, err = create(req)
	case "bench-update":
		result, err = benchUpdate(req)
	case "bench-check":
		result, err = benchCheck(req)
	default:
		err = fmt.Errorf("unknown operation %q", req.Op)
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Result: result}
}

// fromArguments builds the request of a shell command line.
func fromArguments(args []string) (request, error) {
	if len(args) < 2 {
		return request{}, fmt.Errorf("usage: oracle serve | oracle dump|check|pages|stats|edit|bench-commit|create|bench-update|bench-check FILE [ARGUMENT]")
	}
	req := request{Op: args[0], File: args[1]}
	argument := ""
	if len(args) > 2 {
		argument = args[2]
	}
	var target interface{}
	switch req.Op {
	case "dump":
		req.Hash = argument == "hash"
	case "check":
		req.Mode = argument
	case "edit", "bench-commit":
		target = &req.Script
	case "create":
		req.Bulk = &bulk{}
		target = req.Bulk
	case "bench-update":
		req.Benchmark = &benchmark{}
		target = req.Benchmark
	}
	if target != nil {
		text, err := os.ReadFile(argument)
		if err != nil {
			return req, err
		}
		if err := json.Unmarshal(text, target); err != nil {
			return req, fmt.Errorf("%s: %v", argument, err)
		}
	}
	return req, nil
}

// openExisting refuses what is not there: bbolt 1.3.6 creates a missing file even when it is to open it read-only.
func openExisting(file string, o *bolt.Options) (*bolt.DB, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	return bolt.Open(file, 0o600, o)
}
