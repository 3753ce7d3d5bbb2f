package sim

import (
	"bytes"
	"flag"
	"testing"
)

var (
	seed  = flag.Uint64("seed", 0, "play the game of this seed only")
	seeds = flag.Uint64("seeds", 12, "play the games of the first so many seeds")
	cast  = flag.String("cast", "", "who plays: toys or orders; both when empty")
	steps = flag.Int("steps", 0, "steps of a game; 0 = the default")
)

// TestSeed plays the game of -seed, or of a few seeds.
func TestSeed(t *testing.T) {
	for _, c := range []Cast{Toys{}, Orders{}} {
		if *cast == "" || *cast == c.Name() {
			t.Run(c.Name(), func(t *testing.T) { play(t, c) })
		}
	}
}

func play(t *testing.T, cast Cast) {
	if *seed != 0 {
		var trace bytes.Buffer
		report, err := Play(Options{Seed: *seed, Steps: *steps, Cast: cast, Trace: &trace})
		if err != nil || testing.Verbose() {
			t.Logf("%s", trace.Bytes())
		}
		t.Logf("%+v", report)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var all Report
	for n := uint64(1); n <= *seeds; n++ {
		report, err := Play(Options{Seed: n, Steps: *steps, Cast: cast})
		if err != nil {
			t.Fatal(err)
		}
		all.Starts += report.Starts
		all.Done += report.Done
		all.Batches += report.Batches
		all.Crashes += report.Crashes
		all.Rebuilt += report.Rebuilt
	}
	t.Logf("%+v", all)
	if all.Starts == 0 || all.Done == 0 || all.Crashes == 0 || all.Rebuilt == 0 {
		t.Errorf("the games were dull: %+v", all)
	}
}

// The same seed plays the same game.
func TestSameSeedSameGame(t *testing.T) {
	for n := uint64(1); n <= 3; n++ {
		one, err1 := Play(Options{Seed: n, Steps: 300})
		two, err2 := Play(Options{Seed: n, Steps: 300})
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if one != two {
			t.Errorf("seed %d played %+v, then %+v", n, one, two)
		}
	}
	one, _ := Play(Options{Seed: 1, Steps: 50})
	two, _ := Play(Options{Seed: 2, Steps: 50})
	if one.Hash == two.Hash {
		t.Error("two seeds played the same game")
	}
}

// A simulator that finds nothing proves nothing.
func TestBrokenEnginesAreFound(t *testing.T) {
	for broken, name := range map[Breakage]string{
		EffectsTooEarly: "effects too early", MessagesTwice: "messages twice",
		NoFencing: "no fencing", PermitsLeak: "permits leak", WakeUpsLost: "wake-ups lost",
		MemoryKept: "memory kept", IndexForgotten: "index forgotten",
		TimersNotReloaded: "timers not reloaded",
	} {
		t.Run(name, func(t *testing.T) {
			for n := uint64(1); n <= 40; n++ {
				if _, err := Play(Options{Seed: n, Break: broken}); err != nil {
					t.Logf("found by seed %d: %.300s", n, err)
					return
				}
			}
			t.Error("40 games did not find it")
		})
	}
}
