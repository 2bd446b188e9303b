package imaging

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestResultsDoNotTellOfCompanionsThatTheyLack writes what phones write: a gain map, a motion photo.
func TestResultsDoNotTellOfCompanionsThatTheyLack(t *testing.T) {
	const rdf = `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">`
	const names = ` xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:C="http://ns.google.com/photos/1.0/container/"` +
		` xmlns:cam="http://ns.google.com/photos/1.0/camera/" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:n="http://ns.adobe.com/xmp/note/"`
	const end = `</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>`
	packet := rdf + `<rdf:Description` + names + ` g:Version="1.0" cam:MotionPhoto='1'
 cam:BurstID="7" n:HasExtendedXMP="AB" dc:format="image/jpeg">` +
		`<C:Directory><rdf:Seq><rdf:li><C:Item C:Length="9"/></rdf:li></rdf:Seq></C:Directory><g:HDRCapacityMax>2</g:HDRCapacityMax>` +
		`<dc:title>a &lt; "b"</dc:title>` + end
	kept := rdf + `<rdf:Description` + names + `
 cam:BurstID="7" dc:format="image/jpeg"><dc:title>a &lt; "b"</dc:title>` + end

	img := noise(t, 16, 16, 3, 8)
	img.Meta.XMP = []byte(packet)
	var file bytes.Buffer
	require.NoError(t, Encode(&file, img, EncodeOptions{Format: JPEG}))
	got, err := decodeBytes(file.Bytes(), Limits{})
	require.NoError(t, err)
	require.Equal(t, kept, string(got.Meta.XMP))
	require.Equal(t, []string{"the gain map (HDR)", "the video of a motion photo"}, got.Meta.Dropped)
	require.Contains(t, Losses(got, PNG), "the gain map (HDR)")

	for _, same := range []string{kept, "", "<a", `<a g:b="c"/>`, "no XML at all", "<a></b>"} {
		out, lost := withoutCompanions([]byte(same))
		require.Equal(t, same, string(out))
		require.Empty(t, lost)
	}
}
