package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

type outputFormat string

const formatJSON outputFormat = "json"

// json prints a value as indented JSON.
func (s *session) json(v any) error {
	enc := json.NewEncoder(s.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printf prints to the standard output. What cannot be printed has no reader to miss it.
func (s *session) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Stdout, format, args...)
}

// table is text in columns. Cells that look like numbers are set to the right.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, row)
}

func (t *table) print(w io.Writer) {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	t.line(w, width, t.head, false)
	for _, row := range t.rows {
		t.line(w, width, row, true)
	}
}

func (t *table) line(w io.Writer, width []int, row []string, body bool) {
	var b strings.Builder
	for i, c := range row {
		pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
		switch {
		case body && numeric(c):
			b.WriteString(pad + c)
		case i == len(row)-1:
			b.WriteString(c)
		default:
			b.WriteString(c + pad)
		}
		if i < len(row)-1 {
			b.WriteString("  ")
		}
	}
	_, _ = fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
}

func numeric(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.,-") == "" && strings.ContainsAny(s, "0123456789")
}

// clip shortens text to a width in characters.
func clip(s string, width int) string {
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	r := []rune(s)
	return string(r[:width-1]) + "…"
}
