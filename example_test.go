package unirestorer_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	_ "image/jpeg"
	"image/png"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"unirestorer"
)

// photo is a rainy street of 320×240 pixels, for the examples.
const photo = "testdata/photos/rain.png"

// A picture in, a picture out, on the CPU with the built-in model.
func Example() {
	ctx := context.Background()
	r, err := unirestorer.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	file, err := os.Open(photo)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	rainy, _, err := image.Decode(file)
	if err != nil {
		log.Fatal(err)
	}
	result, err := r.Restore(ctx, rainy)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Image.Bounds().Size() == rainy.Bounds().Size(), result.Route.Degradation, result.Stages.Run > 0)
	// Output: true rain true
}

// RestoreFile keeps what the file holds beside its pixels.
func ExampleRestorer_RestoreFile() {
	ctx := context.Background()
	r, err := unirestorer.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	out := filepath.Join(os.TempDir(), "unirestorer-example.webp")
	defer os.Remove(out)
	result, err := r.RestoreFile(ctx, photo, out)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Route.Expert.Name)
	// Output: fine-7-rain
}

// A handler shares one Restorer among all requests. A request that goes away stops its work.
func ExampleRestorer_Restore_handler() {
	r, err := unirestorer.Open(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		picture, err := unirestorer.Decode(http.MaxBytesReader(w, req.Body, 32<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		result, err := r.Restore(req.Context(), picture)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("X-Expert", result.Route.Expert.Name)
		if err := png.Encode(w, result.Image); err != nil {
			log.Print(err)
		}
	})

	server := httptest.NewServer(handler)
	defer server.Close()
	body, err := os.ReadFile(photo)
	if err != nil {
		log.Fatal(err)
	}
	response, err := http.Post(server.URL, "image/png", bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	restored, err := png.Decode(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.Status, response.Header.Get("X-Expert"), restored.Bounds().Dx() > 0)
	// Output: 200 OK fine-7-rain true
}

// The pool says which experts there are; an option takes one of them, whatever the router thinks.
func ExampleWithExpert() {
	ctx := context.Background()
	r, err := unirestorer.Open(ctx, unirestorer.WithLazyEstimator())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	picture, err := unirestorer.DecodeFile(photo)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range r.Experts() {
		if e.Architecture != "dehazeformer" {
			continue
		}
		result, err := r.Restore(ctx, picture, unirestorer.WithExpert(e.Index))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Route.Expert.Name, "restores", result.Route.Expert.Degradations)
	}
	// Output: fine-5-haze restores [haze]
}

// LoRA experts of one base share its memory: the second expert is the first one's program with another adapter merged in.
func ExampleWithAdapters() {
	ctx := context.Background()
	r, err := unirestorer.Open(ctx, unirestorer.WithAdapters(unirestorer.Switched), unirestorer.WithLazyEstimator())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	picture, err := unirestorer.DecodeFile(photo)
	if err != nil {
		log.Fatal(err)
	}
	pool := r.Experts()
	for _, e := range pool {
		if e.Base == nil || e.Level != "middle" {
			continue
		}
		result, err := r.Restore(ctx, picture, unirestorer.WithExpert(e.Index))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Route.Expert.Name, "on", pool[*e.Base].Name)
	}
	// Output:
	// middle-1-snow on coarse
	// middle-4-rain on coarse
	// middle-5-noise on coarse
}

// Route decides without restoring.
func ExampleRestorer_Route() {
	ctx := context.Background()
	r, err := unirestorer.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	picture, err := unirestorer.DecodeFile(photo)
	if err != nil {
		log.Fatal(err)
	}
	route, err := r.Route(ctx, picture, unirestorer.WithLevel("coarse"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(route.Expert.Name, route.Degradation, route.Decision.Mode)
	// Output: coarse rain fixed level
}
