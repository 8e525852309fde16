// A client of WinRM that shares no code with ours: `client PORT USER PASSWORD CA LINE`.
package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/masterzen/winrm"
)

func main() {
	port, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	authority, err := os.ReadFile(os.Args[4])
	if err != nil {
		panic(err)
	}
	endpoint := winrm.NewEndpoint("localhost", port, true, false, authority, nil, nil, 30*time.Second)
	client, err := winrm.NewClient(endpoint, os.Args[2], os.Args[3])
	if err != nil {
		panic(err)
	}
	var stdout, stderr bytes.Buffer
	code, err := client.Run(os.Args[5], &stdout, &stderr)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%q %q %d\n", stdout.String(), stderr.String(), code)
}
