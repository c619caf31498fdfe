package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// output is the flag -o.
type output struct {
	format  string
	formats []string
}

// addTo adds the flag; text for people is what comes without it.
func (o *output) addTo(command *cobra.Command, formats ...string) {
	o.formats = formats
	command.Flags().StringVarP(&o.format, "output", "o", "", "one of "+strings.Join(formats, ", ")+"; text for people without it")
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // it is there
}

func (o *output) check() error {
	if o.format != "" && !slices.Contains(o.formats, o.format) {
		return exit.Misusef("-o %s: is none of %s", o.format, strings.Join(o.formats, ", "))
	}
	return nil
}

// data writes a value for programs, and tells whether that is what was asked for.
func (o *output) data(w io.Writer, value any) (is bool, err error) {
	switch o.format {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return true, encoder.Encode(value)
	case "yaml":
		text, err := yaml.Marshal(value)
		if err != nil {
			return true, fmt.Errorf("encoding the output: %w", err)
		}
		_, err = w.Write(text)
		return true, err
	default:
		return false, nil
	}
}
