package picture

import (
	"math"
	"strconv"
	"time"

	"github.com/rbd-rescue/rbd-rescue/tools/dashboard/grafana"
)

// ink is text on white, grey what matters less.
const (
	ink  = "#24292e"
	grey = "#6e7177"
)

// paint is a colour, and the one of text on it.
type paint struct{ fill, ink string }

// paints are Grafana's names of colours.
var paints = map[string]paint{
	"red": {"#c4162a", "#ffffff"}, "orange": {"#e8801a", ink}, "yellow": {"#f2cc0c", ink}, "green": {"#37872d", "#ffffff"},
	"blue": {"#1f60c4", "#ffffff"}, "light-blue": {"#8ab8ff", ink}, "text": {"#b7bac0", ink},
}

// colours tell the series of a panel apart.
var colours = []string{"#1f60c4", "#e8801a", "#37872d", "#c4162a", "#8f3bb8", "#0a7c8c", "#a16a00", "#5f6670"}

func paintOf(name string) paint {
	if p, is := paints[name]; is {
		return p
	}
	return paints["text"]
}

// shown is how a value is told, and in which colour: by its mapping, or its unit and thresholds.
func shown(value float64, field grafana.Field) (string, paint) {
	for _, mapping := range field.Mappings {
		if word, is := mapping.Options[strconv.FormatFloat(value, 'f', -1, 64)]; is {
			return word.Text, paintOf(word.Color)
		}
	}
	colour := "text"
	for _, step := range field.Thresholds.Steps {
		if step.Value == nil || *step.Value <= value {
			colour = step.Color
		}
	}
	return format(value, field.Unit, field.Decimals), paintOf(colour)
}

// format writes a value with its unit, as Grafana calls it.
func format(value float64, unit string, decimals *int) string {
	switch unit {
	case "", "none":
		return number(value, decimals)
	case "s":
		return seconds(value, decimals)
	case "reqps":
		return number(value, decimals) + " req/s"
	case "ops":
		return number(value, decimals) + " ops/s"
	case "dateTimeAsIso":
		return time.UnixMilli(int64(value)).UTC().Format(time.DateTime)
	default:
		return number(value, decimals) + " " + unit
	}
}

// seconds takes the largest unit that leaves one whole.
func seconds(value float64, decimals *int) string {
	for _, unit := range []struct {
		seconds float64
		name    string
	}{{24 * 60 * 60, "days"}, {60 * 60, "h"}, {60, "min"}, {1, "s"}, {1e-3, "ms"}} {
		if math.Abs(value) >= unit.seconds {
			return number(value/unit.seconds, decimals) + " " + unit.name
		}
	}
	return number(value, decimals) + " s"
}

// number has the decimals that are asked for, else about three digits.
func number(value float64, decimals *int) string {
	size := math.Abs(value)
	switch {
	case decimals != nil:
		return strconv.FormatFloat(value, 'f', *decimals, 64)
	case size >= 100 || value == 0:
		return strconv.FormatFloat(value, 'f', 0, 64)
	case size >= 0.1:
		return strconv.FormatFloat(math.Round(value*100)/100, 'f', -1, 64)
	default:
		return strconv.FormatFloat(value, 'g', 2, 64)
	}
}
