package query_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api/conductorapi/query"
)

func TestParse(t *testing.T) {
	for src, want := range map[string]string{
		``:                                  ``,
		`*`:                                 ``,
		`a=1`:                               `a = "1"`,
		`a = 'x y'`:                         `a = "x y"`,
		`a = "x \" y"`:                      `a = "x \" y"`,
		`a=b AND c>2`:                       `a = "b" AND c > "2"`,
		`a=b and (c IN (x, 'y') OR d!=3)`:   `a = "b" AND (c IN ("x", "y") OR (NOT (d = "3")))`,
		`a BETWEEN 1 AND 2 OR b <= 3`:       `a BETWEEN "1" AND "2" OR b <= "3"`,
		`a IN x`:                            `a IN ("x")`,
		`NOT a = 1`:                         `NOT (a = "1")`,
		`a NOT IN (1,2)`:                    `NOT (a IN ("1", "2"))`,
		`a IS NULL AND b IS NOT NULL`:       `a IS NULL AND (NOT (b IS NULL))`,
		`a STARTS_WITH pre`:                 `a STARTS_WITH "pre"`,
		`a LIKE '%x%'`:                      `a LIKE "%x%"`,
		`((a=1))`:                           `a = "1"`,
		`a=2026-01-01T00:00:00Z AND b=x:y*`: `a = "2026-01-01T00:00:00Z" AND b = "x:y*"`,
		`a='unclosed`:                       `a = "unclosed"`,
	} {
		e, err := query.Parse(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if diff := cmp.Diff(want, e.String()); diff != "" {
			t.Errorf("%s: %s", src, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for src, want := range map[string]string{
		`a`:                       `column 2: want an operator, found the end`,
		`a b`:                     `column 3: want an operator, found "b"`,
		`= 1`:                     `column 1: want the name of a field, found "="`,
		`"a" = 1`:                 `want the name of a field`,
		`a =`:                     `want a value`,
		`a = 1 b = 2`:             `column 7: want AND, OR or the end`,
		`(a = 1`:                  `want a closing parenthesis, found the end`,
		`a IN (1`:                 `want a comma or a closing parenthesis`,
		`a IN ()`:                 `want a value`,
		`a BETWEEN 1 OR 2`:        `want AND`,
		`a IS 1`:                  `want NULL`,
		`a = 1 AND`:               `want the name of a field, found the end`,
		strings.Repeat("(", 1000): `nested too deep`,
		strings.Repeat("a", 1e5):  `longer than`,
	} {
		_, err := query.Parse(src)
		if tutti.KindOf(err) != tutti.Invalid || err == nil {
			t.Errorf("%.20s: error %v, want one of kind Invalid", src, err)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: error %q lacks %q", src, err, want)
		}
	}
}

var fields = query.Fields{
	"name": query.Text, "n": query.Number, "at": query.Time, "body": query.Body,
	"tags": query.TextSet, "none": query.Text,
}

func record(field string) query.Value {
	switch field {
	case "name":
		return query.OfText("order")
	case "n":
		return query.OfNumber(7)
	case "at":
		return query.OfNumber(1767225600000) // 2026-01-01
	case "body":
		return query.OfText(`{"City":"Paris"}`)
	case "tags":
		return query.OfText("red", "blue")
	}
	return query.Value{}
}

func TestMatch(t *testing.T) {
	for src, want := range map[string]bool{
		``:                                true,
		`name=order`:                      true,
		`name=orders`:                     false,
		`name=ord*`:                       true,
		`name=?rder`:                      true,
		`name=*d*r`:                       true,
		`name=*x`:                         false,
		`name!=order`:                     false,
		`name IN (a, order)`:              true,
		`name NOT IN (a, order)`:          false,
		`name STARTS_WITH or`:             true,
		`name LIKE '%de%'`:                true,
		`name > o AND name < p`:           true,
		`name BETWEEN a AND z`:            true,
		`n=7`:                             true,
		`n IN (1, 7)`:                     true,
		`n>7`:                             false,
		`n>=7 AND n<=7`:                   true,
		`n BETWEEN 1 AND 6`:               false,
		`n STARTS_WITH 7`:                 true,
		`n=*`:                             true,
		`at > 2025-12-31`:                 true,
		`at = '2026-01-01T00:00:00Z'`:     true,
		`at < 1000`:                       false,
		`body=paris`:                      true,
		`body='*PARIS*'`:                  true,
		`body=rome`:                       false,
		`tags=blue`:                       true,
		`tags=green`:                      false,
		`tags!=green`:                     true,
		`none IS NULL`:                    true,
		`none=x`:                          false,
		`none!=x`:                         true,
		`name IS NOT NULL`:                true,
		`name=x OR n=7 AND tags=red`:      true,
		`(name=x OR n=7) AND tags=green`:  false,
		`NOT (name=order AND tags=green)`: true,
	} {
		e, err := query.Parse(src)
		if err == nil {
			err = fields.Check(e)
		}
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got := fields.Match(e, record); got != want {
			t.Errorf("%s: matches = %v, want %v", src, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for src, want := range map[string]string{
		`nobody=1`:             `there is no field "nobody"`,
		`name=1 OR (n=x)`:      `"x" is no value for the field n`,
		`NOT at=yesterday`:     `"yesterday" is no value for the field at`,
		`name=1 AND other = 2`: `the fields are at, body, n, name, none, tags`,
	} {
		e, err := query.Parse(src)
		if err != nil {
			t.Fatal(err)
		}
		if err = fields.Check(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v lacks %q", src, err, want)
		}
	}
}

func TestOnlyAndRange(t *testing.T) {
	e, err := query.Parse(`name IN (a,b) AND at > 5 AND at <= 9 AND (n=1 OR tags=x) AND tags=y*`)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := query.Only(e, "name"); cmp.Diff([]string{"a", "b"}, got) != "" {
		t.Errorf("names %v", got)
	}
	for _, field := range []string{"n", "tags", "none"} {
		if got, ok := query.Only(e, field); ok {
			t.Errorf("%s: only %v, but others match too", field, got)
		}
	}
	if from, to := fields.Range(e, "at"); from != 5 || to != 9 {
		t.Errorf("range %d to %d", from, to)
	}
	if from, to := fields.Range(e, "n"); from != -1<<63 || to != 1<<63-1 {
		t.Errorf("range of what is not bounded: %d to %d", from, to)
	}
}

// FuzzParse checks that what is parsed can be written and parsed again to the same, and that
// matching never panics.
func FuzzParse(f *testing.F) {
	for _, src := range []string{
		`a=1 AND (b IN ('x',"y") OR NOT c BETWEEN 1 AND 2)`, `name STARTS_WITH "a\"b"`,
		`n IS NOT NULL`, `at>=2026-01-01`, `body LIKE '%x%'`, `tags!=*?`, `((`, `'`, `!`,
	} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		e, err := query.Parse(src)
		if err != nil {
			return
		}
		text := e.String()
		again, err := query.Parse(text)
		if err != nil {
			if strings.Contains(err.Error(), "too deep") || strings.Contains(err.Error(), "longer") {
				return
			}
			t.Fatalf("%q was written as %q: %v", src, text, err)
		}
		if again.String() != text {
			t.Fatalf("%q was written as %q and then as %q", src, text, again.String())
		}
		if fields.Check(e) == nil {
			fields.Match(e, record)
			fields.Range(e, "at")
		}
	})
}
