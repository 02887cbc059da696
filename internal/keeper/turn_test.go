package keeper

import (
	"context"
	"errors"
	"testing"
)

func TestTurn(t *testing.T) {
	var line turn
	end, err := line.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if _, err := line.take(ctx); !errors.Is(err, enough) {
		t.Errorf("took what another has: %v", err)
	}
	end()
	end, err = line.take(t.Context())
	if err != nil {
		t.Fatalf("it is not given back: %v", err)
	}
	end()
}
