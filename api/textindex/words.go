package textindex

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tutti-run/tutti"
)

// The bounds of what is indexed of one run.
const (
	maxWords     = 512     // distinct words
	maxWordBytes = 64      // a longer word is cut
	maxTextBytes = 1 << 18 // of each payload
)

// Words cuts a query into the words that a run must hold: letters and digits in lower case.
// A word that ends with an asterisk stands for all that begin so.
func Words(query string) []string {
	var out []string
	eachWord(query, true, func(w string) bool {
		out = append(out, w)
		return len(out) < maxWords
	})
	return out
}

// eachWord calls fn with the words of a text until it returns false.
func eachWord(text string, wild bool, fn func(string) bool) {
	start := -1
	emit := func(end int) bool {
		if start < 0 {
			return true
		}
		w := clip(text[start:end])
		start = -1
		return fn(w)
	}
	for i, r := range text {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			if start < 0 {
				start = i
			}
			continue
		}
		if wild && r == '*' && start >= 0 {
			w := clip(text[start:i])
			start = -1
			if !fn(w + "*") {
				return
			}
			continue
		}
		if !emit(i) {
			return
		}
	}
	emit(len(text))
}

// clip lowers a word and cuts it to its bound, at the end of a letter.
func clip(w string) string {
	if len(w) > maxWordBytes {
		n := maxWordBytes
		for n > 0 && !utf8.RuneStart(w[n]) {
			n--
		}
		w = w[:n]
	}
	return strings.ToLower(w)
}

// eachWordOf calls fn with the words of a run: of its input, output and reason, and of what
// it is called.
func eachWordOf(r *tutti.Run, fn func(string) bool) {
	goOn := true
	note := func(w string) bool {
		goOn = fn(w)
		return goOn
	}
	for _, text := range []string{
		r.Definition, r.CorrelationID, r.Reason, head(r.Input), head(r.Output),
	} {
		if eachWord(text, false, note); !goOn {
			return
		}
	}
}

func head(b []byte) string { return string(b[:min(len(b), maxTextBytes)]) }

// Match reports whether a run holds all words, by the same rules as the index.
func Match(r *tutti.Run, words []string) bool {
	return matches(words, func(fn func(string) bool) { eachWordOf(r, fn) })
}

// MatchText is Match over plain texts.
func MatchText(words []string, texts ...string) bool {
	return matches(words, func(fn func(string) bool) {
		for _, t := range texts {
			eachWord(t[:min(len(t), maxTextBytes)], false, fn)
		}
	})
}

func matches(words []string, each func(func(string) bool)) bool {
	missing := make(map[string]bool, len(words))
	for _, w := range words {
		missing[w] = true
	}
	each(func(have string) bool {
		for w := range missing {
			if covers(w, have) {
				delete(missing, w)
			}
		}
		return len(missing) > 0
	})
	return len(missing) == 0
}

// covers reports whether a word of a query stands for a word of a text.
func covers(want, have string) bool {
	if prefix, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(have, prefix)
	}
	return want == have
}
