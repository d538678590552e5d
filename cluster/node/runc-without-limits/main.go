// Command runc-without-limits is runc for nodes whose cgroup v2 hierarchy has
// no controllers: it takes the limits out of a container's description, for
// there is no file to write them to, keeps the rules about devices, and then
// becomes the runc beside it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "runc-without-limits:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	// An update changes nothing but limits.
	if slices.Contains(arguments, "update") {
		return nil
	}
	if slices.Contains(arguments, "create") {
		if err := removeLimits(filepath.Join(bundle(arguments), "config.json")); err != nil {
			return err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	runc := filepath.Join(filepath.Dir(program), "runc")
	return syscall.Exec(runc, append([]string{runc}, arguments[1:]...), os.Environ())
}

// bundle is the folder with the container's description.
func bundle(arguments []string) string {
	position := slices.Index(arguments, "--bundle")
	if position < 0 || position+1 >= len(arguments) {
		return "."
	}
	return arguments[position+1]
}

func removeLimits(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Only what is changed is understood; the rest stays as it was written.
	var description map[string]json.RawMessage
	if err := json.Unmarshal(text, &description); err != nil {
		return err
	}
	var linux map[string]json.RawMessage
	if err := json.Unmarshal(description["linux"], &linux); err != nil {
		return err
	}
	var resources struct {
		Devices json.RawMessage `json:"devices,omitempty"`
	}
	if linux["resources"] != nil {
		if err := json.Unmarshal(linux["resources"], &resources); err != nil {
			return err
		}
	}
	if linux["resources"], err = json.Marshal(resources); err != nil {
		return err
	}
	if description["linux"], err = json.Marshal(linux); err != nil {
		return err
	}
	if text, err = json.Marshal(description); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
