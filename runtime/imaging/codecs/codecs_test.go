package codecs

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestX(t *testing.T) {
	var ru, rv syscall.Rusage
	syscall.Getrusage(0, &ru)
	jpeg.code()
	syscall.Getrusage(0, &rv)
	t.Log("jpeg cpu", rv.Utime.Nano()-ru.Utime.Nano())
	tiff.code()
	syscall.Getrusage(0, &ru)
	t.Log("tiff cpu", ru.Utime.Nano()-rv.Utime.Nano())
	webp.code()
	syscall.Getrusage(0, &rv)
	t.Log("webp cpu", rv.Utime.Nano()-ru.Utime.Nano())
	data, _ := os.ReadFile("/work/shared/cases/files/arith.jpg")
	for range 3 {
		s := time.Now()
		p, err := DecodeJPEG(context.Background(), data, func(JPEGHeader) error { return nil })
		t.Log(time.Since(s), err)
		if err == nil {
			t.Log(p.JPEGHeader, p.Rows, p.Warning, p.FaultRow, p.Pix[:12])
		}
	}
	data, _ = os.ReadFile("/work/shared/cases/files/progtrunc.jpg")
	p, err := DecodeJPEG(context.Background(), data, func(JPEGHeader) error { return nil })
	t.Log(err)
	if err == nil {
		t.Log(p.JPEGHeader, p.Rows, p.Warning, p.FaultRow, p.Pix[:12])
	}
	for _, n := range []string{"big.tif", "c_zstd.tif", "vips_ycc.tif", "g3.tif", "rgb12.tif"} {
		data, _ = os.ReadFile("/work/shared/cases/files/" + n)
		tf, err := OpenTIFF(context.Background(), data, 64<<20)
		if err != nil {
			t.Log(n, err)
			continue
		}
		t.Log(tf.in.message("warning_message"))
		tf.Close()
	}
	rgba := make([]byte, 4*64*64)
	s := time.Now()
	b, err := EncodeWebP(context.Background(), rgba, 64, 64, false, 80)
	t.Log(time.Since(s), len(b), err)
}
