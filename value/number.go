package value

import (
	"cmp"
	"math"
	"strconv"
	"strings"
)

// A Number is the exact text of a JSON number: 5 stays 5 and 5.0 stays 5.0. Make one with Int,
// Float or Parse; any other text is written as null by Append.
type Number string

// Int returns n as a Number.
func Int(n int64) Number { return Number(strconv.FormatInt(n, 10)) }

// Float returns the shortest Number that reads back as f. It always shows that it is not an
// integer (5 becomes 5.0), as in Java. NaN and the infinities have no JSON form: they make a
// Number for which Valid is false.
func Float(f float64) Number {
	var buf [32]byte
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b := strconv.AppendFloat(buf[:0], f, format, -1, 64)
	if format == 'f' && f == math.Trunc(f) {
		b = append(b, ".0"...)
	}
	return Number(b)
}

// Valid reports whether n is the text of a JSON number.
func (n Number) Valid() bool {
	end, ok := scanNumber(n, 0)
	return ok && end == len(n)
}

// IsInt reports whether n is written as an integer, with neither fraction nor exponent.
func (n Number) IsInt() bool { return n != "" && !strings.ContainsAny(string(n), ".eENI") }

// Int64 returns the value of n if it is a whole number within int64, however it is written:
// 5, 5.0 and 0.5e1 are all 5.
func (n Number) Int64() (int64, bool) {
	if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		return i, true
	}
	d, ok := parseDecimal(n)
	if !ok || d.exp < 0 || d.exp > 19 {
		return 0, false
	}
	if d.digits == "" {
		return 0, true
	}
	digits := d.digits + strings.Repeat("0", d.exp)
	if d.negative {
		digits = "-" + digits
	}
	i, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, false
	}
	return i, true
}

// Float64 returns the float64 nearest to n. It is false if n is out of range or not valid.
func (n Number) Float64() (float64, bool) {
	f, err := strconv.ParseFloat(string(n), 64)
	return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
}

// Compare compares two numbers exactly, by value: -1 if n < m, 0 if they are equal, +1 if n > m.
// An invalid number sorts before every valid one.
func (n Number) Compare(m Number) int {
	if n == m {
		return 0
	}
	a, aok := parseDecimal(n)
	b, bok := parseDecimal(m)
	switch {
	case !aok && !bok:
		return cmp.Compare(n, m)
	case !aok:
		return -1
	case !bok:
		return 1
	case a.negative != b.negative:
		return sign(a.negative)
	}
	c := a.compareMagnitude(b)
	if a.negative {
		c = -c
	}
	return c
}

func sign(negative bool) int {
	if negative {
		return -1
	}
	return 1
}

// A decimal is digits × 10^exp, the digits without zeros at either end. Zero has no digits and is
// not negative, so each value has one form.
type decimal struct {
	negative bool
	digits   string
	exp      int
}

// compareMagnitude compares without regard to sign.
func (d decimal) compareMagnitude(e decimal) int {
	if d.digits == "" || e.digits == "" {
		return cmp.Compare(len(d.digits), len(e.digits))
	}
	// The place of the leading digit decides; then the digits as a fraction.
	c := cmp.Compare(len(d.digits)+d.exp, len(e.digits)+e.exp)
	return cmp.Or(c, strings.Compare(d.digits, e.digits))
}

func parseDecimal(n Number) (decimal, bool) {
	if !n.Valid() {
		return decimal{}, false
	}
	s := string(n)
	var d decimal
	s, d.negative = strings.CutPrefix(s, "-")
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		// ParseInt returns the nearest value it can hold for an exponent out of range.
		exp, _ := strconv.ParseInt(s[i+1:], 10, 32)
		d.exp, s = int(exp), s[:i]
	}
	if whole, fraction, ok := strings.Cut(s, "."); ok {
		d.exp -= len(fraction)
		s = whole + fraction
	}
	trimmed := strings.TrimRight(s, "0")
	d.exp += len(s) - len(trimmed)
	d.digits = strings.TrimLeft(trimmed, "0")
	if d.digits == "" {
		return decimal{}, true
	}
	return d, true
}
