package serve

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// browser starts a headless Chromium; UNIRESTORER_TEST_BROWSER names the program, and without it such tests are skipped.
func browser(t *testing.T) context.Context {
	program := os.Getenv("UNIRESTORER_TEST_BROWSER")
	if program == "" {
		t.Skip("UNIRESTORER_TEST_BROWSER names no browser; make page-check does")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.Flag("disable-gpu", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// scheme has the page see a light or dark system.
func scheme(name string) chromedp.Action {
	return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}})
}

func TestPageInABrowser(t *testing.T) {
	ctx := browser(t)
	_, url := start(t, model(t), Config{})
	photo, err := filepath.Abs("../../testdata/photos/rain.png")
	require.NoError(t, err)
	var status, route, before, after, light, dark, saved string
	var width, wide int
	var shot []byte
	require.NoError(t, chromedp.Run(ctx,
		chromedp.EmulateViewport(1000, 900), scheme("light"), chromedp.Navigate(url+"/"),
		chromedp.WaitVisible("#drop"), chromedp.Poll(`document.querySelectorAll("#kind option").length > 5`, nil),
		chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &light),
		chromedp.SetUploadFiles("#files", []string{photo}, chromedp.ByQuery),
		chromedp.WaitVisible("#result"), chromedp.Poll(`document.getElementById("after").naturalWidth > 0`, nil),
		chromedp.Text("#route", &route), chromedp.Text("#status", &status),
		chromedp.Evaluate(`document.getElementById("after").naturalWidth`, &width),
		chromedp.AttributeValue("#download", "download", &saved, nil),
		chromedp.FullScreenshot(&shot, 100),
	))
	require.Equal(t, "Done.", status)
	require.Contains(t, route, "rain")
	require.Equal(t, 451, width)
	require.Equal(t, "rain.restored.png", saved)
	if path := os.Getenv("UNIRESTORER_SCREENSHOT"); path != "" {
		require.NoError(t, os.WriteFile(path, shot, 0o666))
	}

	// By keyboard: the slider moves, the history shows the picture again.
	at := `getComputedStyle(document.getElementById("compare")).getPropertyValue("--at")`
	require.NoError(t, chromedp.Run(ctx,
		chromedp.Evaluate(at, &before), chromedp.Focus("#slider"), chromedp.KeyEvent(kb.ArrowRight),
		chromedp.Evaluate(at, &after),
		chromedp.Evaluate(`document.getElementById("result-name").textContent = ""`, nil),
		chromedp.Focus("#history button"), chromedp.KeyEvent("\r"),
		chromedp.Text("#result-name", &saved),
	))
	require.NotEqual(t, before, after)
	require.Equal(t, "rain.png", saved)

	// Strength 0 gives the picture back.
	var same bool
	require.NoError(t, chromedp.Run(ctx,
		chromedp.Evaluate(`document.getElementById("strength").value = 0; document.getElementById("no-guard").checked = true; document.getElementById("again").click()`, nil),
		chromedp.Poll(`document.querySelectorAll("#history button").length == 2 && document.getElementById("status").textContent == "Done."`, nil),
		chromedp.Poll(`document.getElementById("before").complete && document.getElementById("after").complete`, nil),
		chromedp.Evaluate(`(() => { const p = (id) => { const i = document.getElementById(id), c = document.createElement("canvas"); c.width = i.naturalWidth; c.height = i.naturalHeight;
			const x = c.getContext("2d"); x.drawImage(i, 0, 0); return x.getImageData(0, 0, c.width, c.height).data.join(); }; return p("before") === p("after"); })()`, &same)))
	require.True(t, same)
	var visited string
	require.NoError(t, chromedp.Run(ctx, chromedp.Text("#history button", &visited)))
	require.Equal(t, "rain.png (0 %, any brightness)", visited)

	// What is wrong is told.
	bad := write(t, filepath.Join(t.TempDir(), "bad.png"), "no picture")
	require.NoError(t, chromedp.Run(ctx,
		chromedp.SetUploadFiles("#files", []string{bad}, chromedp.ByQuery), chromedp.WaitVisible("#status.bad"), chromedp.Text("#status", &status)))
	require.Contains(t, status, "bad.png")

	// Dark, and as narrow as a telephone.
	require.NoError(t, chromedp.Run(ctx, chromedp.EmulateViewport(360, 740), scheme("dark"),
		chromedp.Evaluate(`getComputedStyle(document.body).backgroundColor`, &dark),
		chromedp.Evaluate(`document.documentElement.scrollWidth`, &wide)))
	require.NotEqual(t, light, dark)
	require.LessOrEqual(t, wide, 360)
	if path := os.Getenv("UNIRESTORER_SCREENSHOT"); path != "" {
		require.NoError(t, chromedp.Run(ctx, chromedp.FullScreenshot(&shot, 100)))
		require.NoError(t, os.WriteFile(strings.TrimSuffix(path, ".png")+"-phone.png", shot, 0o666))
	}

	// Every control has a name.
	var nameless int
	require.NoError(t, chromedp.Run(ctx, chromedp.Evaluate(
		`[...document.querySelectorAll("input,select,button,a")].filter((e) => !(e.labels && e.labels.length) && !e.ariaLabel && !e.textContent.trim()).length`, &nameless)))
	require.Zero(t, nameless)
}
