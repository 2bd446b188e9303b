package degrade

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpecTextForms(t *testing.T) {
	for _, c := range []struct {
		text, canonical string
		terms           []Term
		seed            uint64
	}{
		{text: "rain:0.6", terms: []Term{{Kind: Rain, Severity: 0.6}}},
		{text: "rain", canonical: "rain:0.5", terms: []Term{{Kind: Rain, Severity: 0.5}}},
		{text: "rain:heavy", canonical: "rain:0.75", terms: []Term{{Kind: Rain, Severity: 0.75}}},
		{
			text: "noise:sigma=25", terms: []Term{{Kind: Noise, Severity: 0.3333, Set: []Setting{{"sigma", 25}}}},
		},
		{text: "jpeg:q=20", terms: []Term{{Kind: JPEG, Severity: JPEG.severityOf(20), Set: []Setting{{"q", 20}}}}},
		{
			text: " Gaussian-Noise : 0.2 , SIGMA = 25 @ 7 ", canonical: "noise:0.2,sigma=25@7", seed: 7,
			terms: []Term{{Kind: Noise, Severity: 0.2, Set: []Setting{{"sigma", 25}}}},
		},
		{
			text: "noise:0.3+rain:0.6@18446744073709551615", canonical: "rain:0.6+noise:0.3@18446744073709551615",
			seed:  math.MaxUint64,
			terms: []Term{{Kind: Rain, Severity: 0.6}, {Kind: Noise, Severity: 0.3}},
		},
		{
			text: "haze:far=0.5,beta=1", canonical: "haze:beta=1,far=0.5",
			terms: []Term{{Kind: Haze, Severity: 0.3333, Set: []Setting{{"beta", 1}, {"far", 0.5}}}},
		},
		{
			text: "haze:far=0.5", terms: []Term{{Kind: Haze, Severity: 0.5, Set: []Setting{{"far", 0.5}}}},
		},
		{text: "clean"},
		{text: "clean@3", seed: 3},
		{text: "noise:1e-3", canonical: "noise:0.001", terms: []Term{{Kind: Noise, Severity: 0.001}}},
	} {
		t.Run(c.text, func(t *testing.T) {
			spec, err := ParseSpec(c.text)
			require.NoError(t, err)
			require.Equal(t, Spec{Terms: c.terms, Seed: c.seed}, spec)
			if c.canonical == "" {
				c.canonical = c.text
			}
			require.Equal(t, c.canonical, spec.String())
			again, err := ParseSpec(spec.String())
			require.NoError(t, err)
			require.Equal(t, spec, again)
		})
	}
}

func TestBadSpecsSayWhatIsWrong(t *testing.T) {
	for text, message := range map[string]string{
		"":                           "empty",
		"@3":                         "empty",
		"fog machine":                `unknown degradation "fog machine"`,
		"blur":                       "unknown degradation",
		"rain:1.2":                   "rain: severity 1.2 is outside 0..1",
		"rain:-0.1":                  "outside 0..1",
		"rain:nan":                   "outside 0..1",
		"rain:wet":                   `severity "wet" is neither`,
		"rain:0.1,0.2":               `a second severity "0.2"`,
		"rain:0.1+rain:0.2":          "rain occurs twice",
		"noise:sigma=300":            "sigma is 300, must be between 0 and 255",
		"noise:sigma=nan":            "must be between",
		"noise:sigma=x":              "not a number",
		"noise:sigma=1,sigma=2":      "sigma is set twice",
		"noise:size=1":               `no parameter "size" (known: sigma)`,
		"jpeg:q=20.5":                "whole number",
		"rain@x":                     `seed "x" is not a whole number`,
		"rain@-1":                    "not a whole number",
		"rain+":                      "unknown degradation",
		"clean+rain":                 "unknown degradation",
		"noise@99999999999999999999": "not a whole number",
	} {
		_, err := ParseSpec(text)
		require.ErrorContains(t, err, message, "spec %q", text)
	}
}

func TestKindNamesAndAliasesAreUnambiguous(t *testing.T) {
	seen := map[string]Kind{}
	for k := range kindCount {
		for _, name := range append([]string{k.info().name}, k.info().aliases...) {
			other, taken := seen[name]
			require.False(t, taken, "%q names both %s and %s", name, k, other)
			seen[name] = k
			parsed, err := ParseKind(name)
			require.NoError(t, err)
			require.Equal(t, k, parsed)
		}
	}
	require.Len(t, Kinds(), 9)
	require.Len(t, append(Kinds(), HeldOutKinds()...), int(kindCount))
	require.Equal(t, "Kind(99)", Kind(99).String())
	require.Error(t, Spec{Terms: []Term{{Kind: 99}}}.Check())
}

func TestKindsAreDocumented(t *testing.T) {
	for k := range kindCount {
		info := k.info()
		require.NotEmpty(t, info.title, k)
		require.NotEmpty(t, info.formula, k)
		require.NotEmpty(t, info.source, k)
		for _, p := range k.Params() {
			require.NotEmpty(t, p.Meaning, "%s %s", k, p.Name)
			require.NotEmpty(t, p.Curve, "%s %s", k, p.Name)
		}
	}
}

func TestCurvesStayWithinTheLimitsOfTheirParameters(t *testing.T) {
	for k := range kindCount {
		for _, def := range k.info().params {
			for s := 0.0; s <= 1; s += 0.01 {
				for _, u := range []float64{0, 0.3, 1} {
					require.NoError(t, def.check(def.value(s, u)), "%s at s=%g, u=%g", k, s, u)
				}
			}
		}
	}
}

func TestFirstParameterTellsTheSeverity(t *testing.T) {
	for k := range kindCount {
		value := k.info().params[0].value
		for _, s := range []float64{0.05, 0.2, 0.5, 0.77, 1} {
			v := value(s, 0.5)
			require.InDelta(t, v, value(k.severityOf(v), 0.5), 1e-3*math.Abs(v)+1e-9, "%s at %g", k, s)
		}
		// Values beyond either end stay in 0..1.
		for _, v := range []float64{-1e12, 1e12, math.Inf(1), math.Inf(-1), math.NaN()} {
			s := k.severityOf(v)
			require.True(t, s >= 0 && s <= 1, "%s: severity %g of %g", k, s, v)
		}
	}
}

func TestDescribeGivesConcreteParameters(t *testing.T) {
	spec, err := ParseSpec("jpeg:q=20+noise:sigma=25+haze:0.5@5")
	require.NoError(t, err)
	list, err := Describe(spec)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, []Kind{Haze, Noise, JPEG}, []Kind{list[0].Kind, list[1].Kind, list[2].Kind})
	require.Equal(t, "noise (severity 0.3333): sigma 25 /255", list[1].String())
	require.Equal(t, 20.0, list[2].Params[0].Value)
	require.Equal(t, 1.5, list[0].Params[0].Value, "beta = 3 s")
	_, err = json.Marshal(list)
	require.NoError(t, err)

	_, err = Describe(Spec{Terms: []Term{{Kind: Noise, Severity: 2}}})
	require.ErrorContains(t, err, "outside 0..1")
}

func TestSettingOneParameterLeavesTheOthers(t *testing.T) {
	free := Term{Kind: Rain, Severity: 0.5}.resolve(11)
	fixed := Term{Kind: Rain, Severity: 0.5, Set: []Setting{{"angle", 3}}}.resolve(11)
	for i, def := range free.defs {
		if def.name == "angle" {
			require.Equal(t, 3.0, fixed.values[i])
		} else {
			require.Equal(t, free.values[i], fixed.values[i], def.name)
		}
	}
}

func TestSpecsTravelInJSON(t *testing.T) {
	spec, err := ParseSpec("rain:0.6+jpeg:q=20@9")
	require.NoError(t, err)
	text, err := json.Marshal(map[string]Spec{"spec": spec})
	require.NoError(t, err)
	require.JSONEq(t, `{"spec":"rain:0.6+jpeg:q=20@9"}`, string(text))
	var back map[string]Spec
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, spec, back["spec"])
	require.Error(t, json.Unmarshal([]byte(`{"spec":"nonsense"}`), &back))
}

func FuzzParseSpec(f *testing.F) {
	for _, text := range []string{
		"rain:0.6", "noise:sigma=25", "jpeg:q=20@4", "clean", "haze:light+snow:extreme,angle=-3+jpeg:0.1", "rain:,", "@", "a:b=c",
		"poisson:peak=1e9", "lowres:factor=64", "defocus:radius=0.2", "motion:0,length=0",
	} {
		f.Add(text)
	}
	img := testImage(9, 7)
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := ParseSpec(text)
		if err != nil {
			return
		}
		again, err := ParseSpec(spec.String())
		require.NoError(t, err, "own text %q", spec)
		require.Equal(t, spec, again)
		out, err := Apply(t.Context(), img, spec)
		require.NoError(t, err)
		require.NoError(t, out.check(), "result of %q", spec)
	})
}
