package engine

import (
	"encoding/binary"
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// DocumentShard is the shard that keeps the catalogue of definitions.
const DocumentShard = 0

// Document is one entry of the catalogue: a definition or what belongs to it.
type Document struct {
	Namespace, Dialect, Kind, Name string
	Version                        int // 0 for kinds without versions
	Body                           value.Raw
	CreateMs, UpdateMs             int64
	CreatedBy                      string
}

// DocChange tells the catalogue of a document that was written or, with Deleted, removed.
type DocChange struct {
	Document
	Deleted bool
}

// PutMode says what PutDocument does about a document that exists, or does not.
type PutMode uint8

// The modes.
const (
	PutAny    PutMode = iota // create or replace
	PutNew                   // refuse with Exists
	PutExists                // refuse with NotFound
)

// PutDocument writes a document of the catalogue. Runs that are pinned to an earlier body
// are not affected.
type PutDocument struct {
	Doc  Document
	Mode PutMode
}

func (c PutDocument) apply(b *Batch) (any, error) {
	d := c.Doc
	if err := firstError(
		checkName("the namespace", d.Namespace, MaxName),
		checkName("the name", d.Name, MaxText), checkPayload("the document", d.Body),
	); err != nil {
		return nil, err
	}
	key := docKey(d.Namespace, d.Dialect, d.Kind, d.Name, d.Version)
	raw, ok := b.get(key)
	switch {
	case ok && c.Mode == PutNew:
		return nil, tutti.E(tutti.Exists, "put "+d.Kind, "DocumentExists",
			fmt.Sprintf("%s %s version %d exists", d.Kind, d.Name, d.Version))
	case !ok && c.Mode == PutExists:
		return nil, errNoDocument(&d)
	}
	d.CreateMs, d.UpdateMs = b.now, b.now
	if ok {
		old, err := decodeDocument(key, raw)
		b.fail(err)
		d.CreateMs, d.CreatedBy = old.CreateMs, old.CreatedBy
	}
	b.set(key, encodeDocument(&d))
	b.fx.Docs = append(b.fx.Docs, DocChange{Document: d})
	return d, nil
}

func errNoDocument(d *Document) error {
	return tutti.E(tutti.NotFound, "find "+d.Kind, "DocumentNotFound",
		fmt.Sprintf("there is no %s %s version %d", d.Kind, d.Name, d.Version))
}

// DeleteDocument removes a document from the catalogue.
type DeleteDocument struct{ Doc Document }

func (c DeleteDocument) apply(b *Batch) (any, error) {
	d := c.Doc
	key := docKey(d.Namespace, d.Dialect, d.Kind, d.Name, d.Version)
	if _, ok := b.get(key); !ok {
		return nil, errNoDocument(&d)
	}
	b.del(key)
	b.fx.Docs = append(b.fx.Docs, DocChange{Document: d, Deleted: true})
	return nil, nil
}

func encodeDocument(d *Document) []byte {
	var e enc
	e.bytes(1, d.Body)
	e.i(2, d.CreateMs)
	e.i(3, d.UpdateMs)
	e.str(4, d.CreatedBy)
	return e.b
}

func decodeDocument(key, b []byte) (d Document, err error) {
	parts, tail := splitText(key[1:], 4)
	if len(parts) != 4 || len(tail) != 4 {
		return d, errCorrupt
	}
	d.Namespace, d.Dialect, d.Kind, d.Name = parts[0], parts[1], parts[2], parts[3]
	d.Version = int(binary.BigEndian.Uint32(tail))
	err = decode(b, func(f field) error {
		switch f.num {
		case 1:
			d.Body = f.own()
		case 2:
			d.CreateMs = f.i()
		case 3:
			d.UpdateMs = f.i()
		case 4:
			d.CreatedBy = f.s()
		}
		return nil
	})
	return d, err
}

// Letter is an entry of a mail box: a durable list in order of arrival, such as the
// internal event queue.
type Letter struct {
	Box    string
	Number uint64
	ID     string
	Body   value.Raw
	AtMs   int64
}

const (
	// MaxBox bounds the letters that wait in one box.
	MaxBox = 1_000_000
	// maxMail bounds the boxes that a shard remembers.
	maxMail = 4096
)

// box is what a shard knows of a mail box: the number of its newest letter and how many
// there are.
type box struct{ last, count uint64 }

func boxKey(name string) []byte { return append(text([]byte{tableMail}, name), 'n') }

func letterKey(name string, number uint64) []byte {
	return be64(append(text([]byte{tableMail}, name), 'b'), int64(number))
}

func (b *Batch) box(name string) box {
	m, ok := b.s.mail[name]
	if raw, found := b.get(boxKey(name)); !ok && found && len(raw) == 16 {
		m.last, m.count = binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:])
	}
	return m
}

func (b *Batch) saveBox(name string, m box) {
	if len(b.s.mail) >= maxMail {
		clear(b.s.mail)
	}
	b.s.mail[name] = m
	b.set(boxKey(name), be64(be64(nil, int64(m.last)), int64(m.count)))
}

// PutLetter adds a letter to a box. The shard must be KeyShard(box). The result is the
// letter's number.
type PutLetter struct {
	Box  string
	ID   string
	Body value.Raw
}

func (c PutLetter) apply(b *Batch) (any, error) {
	err := firstError(checkName("the name of the box", c.Box, MaxText),
		checkName("the letter's id", c.ID, MaxText), checkPayload("the letter", c.Body))
	if err != nil {
		return nil, err
	}
	m := b.box(c.Box)
	if m.count >= MaxBox {
		return nil, &tutti.Error{
			Kind: tutti.Exhausted, Op: "put letter", Code: "BoxFull",
			Err:  fmt.Errorf("%d letters wait in box %s, which is the limit", m.count, c.Box),
			Hint: "see that they are consumed",
		}
	}
	m.last, m.count = m.last+1, m.count+1
	b.saveBox(c.Box, m)
	var e enc
	e.str(1, c.ID)
	e.bytes(2, c.Body)
	e.i(3, b.now)
	b.set(letterKey(c.Box, m.last), e.b)
	b.fx.Letters = append(b.fx.Letters, c.Box)
	return m.last, nil
}

// DropLetter removes a letter that has been handled.
type DropLetter struct {
	Box    string
	Number uint64
}

func (c DropLetter) apply(b *Batch) (any, error) {
	key := letterKey(c.Box, c.Number)
	if _, ok := b.get(key); !ok {
		return nil, nil
	}
	b.del(key)
	m := b.box(c.Box)
	m.count--
	b.saveBox(c.Box, m)
	return nil, nil
}

func decodeLetter(k, v []byte) (l Letter, err error) {
	parts, tail := splitText(k[1:], 1)
	if len(parts) != 1 || len(tail) != 9 {
		return l, errCorrupt
	}
	l.Box, l.Number = parts[0], binary.BigEndian.Uint64(tail[1:])
	err = decode(v, func(f field) error {
		switch f.num {
		case 1:
			l.ID = f.s()
		case 2:
			l.Body = f.own()
		case 3:
			l.AtMs = f.i()
		}
		return nil
	})
	return l, err
}
