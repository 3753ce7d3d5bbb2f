package api

import (
	"context"
	"strings"

	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// MaxLetters bounds the letters that one call of Letters returns.
const MaxLetters = 1000

// boxKey is the engine's name of a box of a namespace.
func boxKey(ns, box string) string { return ns + "/" + box }

func (s *Service) checkBox(ctx context.Context, ns, box string) error {
	if err := s.authorize(ctx, UseEvents, ns); err != nil {
		return err
	}
	return checkName("box", box)
}

// toBox submits a command to the shard that owns a box.
func (s *Service) toBox(ctx context.Context, key string, cmd engine.Command) (any, error) {
	return s.run.Submit(ctx, engine.KeyShard(key, s.run.Shards()), cmd)
}

// PutLetter adds a letter to a mail box of a namespace, a durable list in order of arrival,
// and returns its number.
func (s *Service) PutLetter(
	ctx context.Context, ns, box, id string, body value.Raw,
) (uint64, error) {
	if err := s.checkBox(ctx, ns, box); err != nil {
		return 0, err
	}
	if err := checkPayload("put letter", body); err != nil {
		return 0, err
	}
	key := boxKey(ns, box)
	n, err := s.toBox(ctx, key, engine.PutLetter{Box: key, ID: id, Body: body})
	if err != nil {
		return 0, err
	}
	return n.(uint64), nil
}

// Letters returns the letters of a box in order, from a number on, MaxLetters at most.
func (s *Service) Letters(
	ctx context.Context, ns, box string, from uint64,
) (list []engine.Letter, err error) {
	if err := s.checkBox(ctx, ns, box); err != nil {
		return nil, err
	}
	key := boxKey(ns, box)
	err = s.run.Read(ctx, engine.KeyShard(key, s.run.Shards()), func(v engine.View) error {
		return v.Letters(key, from, func(l engine.Letter) bool {
			l.Box = box
			list = append(list, l)
			return len(list) < MaxLetters
		})
	})
	return list, err
}

// DropLetter removes a letter that has been dealt with. One that is not there is no error.
func (s *Service) DropLetter(ctx context.Context, ns, box string, number uint64) error {
	if err := s.checkBox(ctx, ns, box); err != nil {
		return err
	}
	key := boxKey(ns, box)
	_, err := s.toBox(ctx, key, engine.DropLetter{Box: key, Number: number})
	return err
}

// OnLetters sets who is told that letters have arrived in boxes of a namespace. It is called
// once, before traffic; fn must not block. Boxes with letters of earlier are told at once.
func (s *Service) OnLetters(ns string, fn func(box string)) {
	s.run.OnLetters(func(keys []string) {
		for _, key := range keys {
			if of, box, ok := strings.Cut(key, "/"); ok && of == ns {
				fn(box)
			}
		}
	})
}

// OnDocuments makes fn be called after documents of a kind have changed, in any namespace.
// It must not block.
func (s *Service) OnDocuments(kind string, fn func()) {
	s.run.Catalog().OnChange(func(changed string) {
		if changed == kind {
			fn()
		}
	})
}
