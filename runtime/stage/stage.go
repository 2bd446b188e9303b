// Package stage names the steps of a picture for whoever watches: a trace of OpenTelemetry, where the context belongs to
// one, and NVIDIA's profilers.
package stage

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"unirestorer/runtime/nvtx"
)

// Start begins a step, of a subject such as a file's or an expert's name, which may be empty. What it returns ends the step.
// Without a watcher it costs nothing worth counting.
func Start(ctx context.Context, step, subject string) (context.Context, func()) {
	end := nvtx.Range(name(step, subject))
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, end
	}
	ctx, span := parent.TracerProvider().Tracer("unirestorer").Start(ctx, step)
	if subject != "" {
		span.SetAttributes(attribute.String("unirestorer."+step, subject))
	}
	return ctx, func() {
		span.End()
		end()
	}
}

func name(step, subject string) string {
	if subject == "" {
		return step
	}
	return step + " " + subject
}
