package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"unirestorer/runtime/evidence"
	"unirestorer/runtime/experts"
	"unirestorer/runtime/lora"
	"unirestorer/runtime/pools"
	"unirestorer/runtime/report"
	"unirestorer/weights"
)

func loraPlanCommand() *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "choose which full experts should be adapters, and of which rank, within a budget of bytes",
		UsageText: "unirestorer lora plan --synth PHOTOS… | --data DIR [--ranks R,R…] [--budget SIZE [-o FOLDER]]\n" +
			"unirestorer lora plan --help",
		Description: "Extracts adapters of several ranks from every full Restormer for which the pool has a base, runs them and all\n" +
			"experts on a test set, and finds the pools that no smaller one equals: for every expert the full one, one of\n" +
			"the extracted adapters, or an adapter of the pool that was trained for the same. Routing stays as it is. Of\n" +
			"these the best within --budget is written to FOLDER, without what it does not need.\n\n" +
			"Examples:\n" +
			"   unirestorer lora plan --synth photos/ --ranks 2,4,8,16\n" +
			"   unirestorer lora plan --model model/ --data testset/ --budget 60MB -o smaller/",
		Flags: studyFlags(modelFlag(), netArgsFlag(),
			&cli.StringFlag{Name: "ranks", Value: "2,4,8,16", Usage: "`RANKS` of the adapters, separated by commas"},
			&cli.StringFlag{Name: "dtype", Value: "f16", Usage: "`TYPE` of the factors: f16, bf16 or f32"},
			&cli.StringFlag{Name: "budget", Usage: "`SIZE` that the experts' weights may have, like 60MB"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "model `FOLDER` to write, where nothing may be yet"}),
		Action: loraPlanAction,
	}
}

// loraPlan is the report of lora plan.
type loraPlan struct {
	Model    string `json:"model"`
	Set      string `json:"set"`
	Pictures int    `json:"pictures"`
	// Experts are the names that numbers in Plans mean.
	Experts []string                `json:"experts"`
	Plans   []evidence.Substitution `json:"plans"`
	Budget  int64                   `json:"budget,omitempty"`
	Chosen  *evidence.Substitution  `json:"chosen,omitempty"`
	Output  string                  `json:"output,omitempty"`
}

func loraPlanAction(c *cli.Context) (err error) {
	ranks, err := ranksOf(c.String("ranks"))
	if err != nil {
		return err
	}
	dtype, ok := factorTypes[c.String("dtype")]
	if !ok {
		return usagef("--dtype %q: want f16, bf16 or f32", c.String("dtype"))
	}
	r := &loraPlan{Output: c.String("output")}
	if c.String("budget") != "" {
		if r.Budget, err = budgetOf(c); err != nil {
			return err
		}
	}
	if r.Output != "" {
		if r.Budget == 0 {
			return usagef("--output goes with --budget")
		}
		if err := weights.CheckFolderPath(r.Output, false); err != nil {
			return err
		}
	}
	s, err := openSession(c)
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	work, err := os.MkdirTemp("", "unirestorer-plan-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	extended := filepath.Join(work, "model")
	substitutes, err := writeSubstitutes(c, s.model, ranks, dtype, extended)
	if err != nil {
		return err
	}
	m, err := experts.OpenModel(extended)
	if err != nil {
		return err
	}
	defer closing(&err, m.Close)
	r.Model = s.model.Path
	if err := r.fill(c, &session{m, s.backend}, substitutes); err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, r)
	}
	return r.print(c)
}

// writeSubstitutes writes a model folder that has beside all experts of a model adapters of all ranks for every full expert with
// a base, and gives what may stand in for each of these: its adapters, trained ones included.
func writeSubstitutes(c *cli.Context, m *experts.Model, ranks []int, dtype weights.DType, folder string) (map[int][]int, error) {
	pairs, err := lora.ComparablePairs(m.Config)
	if err != nil {
		return nil, err
	}
	plan, err := lora.NewPlan(m.Config, m.Source)
	if err != nil {
		return nil, err
	}
	reachable := m.Config.Tree.Reachable()
	substitutes := map[int][]int{}
	for _, p := range pairs {
		if !slices.Contains(reachable, p.Full) {
			continue
		}
		if p.LoRA >= 0 {
			substitutes[p.Full] = append(substitutes[p.Full], p.LoRA)
		}
		if p.Base < 0 || !lora.SameArguments(m.Config, p.Base, p.Full) || slices.ContainsFunc(pairs, func(o lora.Pair) bool { return o.Base == p.Full }) {
			continue
		}
		added, err := addAdapters(c, m, plan, p, ranks, dtype)
		if err != nil {
			return nil, err
		}
		substitutes[p.Full] = append(substitutes[p.Full], added...)
	}
	if len(substitutes) == 0 {
		return nil, fmt.Errorf("%s: no Restormer that the tree leads to has a LoRA twin, or a coarser Restormer of equal arguments to be adapted", m.Path)
	}
	out, err := plan.Finish()
	if err != nil {
		return nil, err
	}
	_, err = out.Write(c.Context, folder, weights.FolderOptions{}, func(int, int) {})
	return substitutes, err
}

// addAdapters adds adapters of the ranks for a pair's full expert to a plan.
func addAdapters(c *cli.Context, m *experts.Model, plan *lora.Plan, p lora.Pair, ranks []int, dtype weights.DType) ([]int, error) {
	base, err := lora.ExpertOf(m.Config, m.Source, p.Base)
	if err != nil {
		return nil, err
	}
	full, err := lora.ExpertOf(m.Config, m.Source, p.Full)
	if err != nil {
		return nil, err
	}
	bar := newBar(c.App.ErrWriter, c.Bool("quiet"), "decomposing "+full.Name)
	x, err := lora.Extract(c.Context, base, full, ranks[len(ranks)-1], bar.set)
	bar.close()
	if err != nil {
		return nil, err
	}
	var added []int
	for _, rank := range ranks {
		a, err := x.Adapter(rank, dtype)
		if err != nil {
			return nil, err
		}
		i, err := plan.Add(a.Expert, m.Config.Experts[p.Full].Level, p.Base)
		if err != nil {
			return nil, err
		}
		added = append(added, i)
	}
	return added, nil
}

// fill runs the test set, finds the plans, and writes the chosen one.
func (r *loraPlan) fill(c *cli.Context, s *session, substitutes map[int][]int) error {
	study, _, words, err := newStudy(c, s, c.Args().Slice())
	if err != nil {
		return err
	}
	r.Set, r.Pictures = words, len(study.Records)
	for _, e := range s.model.Config.Experts {
		r.Experts = append(r.Experts, e.Name)
	}
	if r.Plans, err = study.Substitutions(substitutes, s.model.WeightBytes); err != nil || r.Budget == 0 {
		return err
	}
	if r.Chosen, err = evidence.BestWithin(r.Plans, r.Budget); err != nil {
		return fmt.Errorf("--budget %s: %w", c.String("budget"), err)
	}
	if r.Output == "" {
		return nil
	}
	return pools.Prune(c.Context, s.model, r.Chosen.Leaves, r.Output)
}

func (r *loraPlan) print(c *cli.Context) error {
	t := &report.Table{
		Caption: fmt.Sprintf("Pools of %s that no smaller one equals, over %s", r.Model, r.Set),
		Columns: []report.Column{
			{Name: "weights", Unit: "MB", Align: report.Right}, {Name: "quality", Unit: "dB", Align: report.Right},
			{Name: "lost", Unit: "dB", Align: report.Right}, {Name: "adapters"}, {Name: ""},
		},
		Notes: []string{"Lost is what routed results lose beside the pool as it is, with its 95 % interval, by a bootstrap over photos. " +
			"Experts that are not named stay full."},
	}
	for i := range r.Plans {
		p, mark := &r.Plans[i], ""
		if r.Chosen != nil && p.Bytes == r.Chosen.Bytes {
			mark = "chosen"
		}
		t.Add(fmt.Sprintf("%.2f", float64(p.Bytes)/1e6), fmt.Sprintf("%.2f", p.Value), p.Lost.String(), r.adapters(p), mark)
	}
	if err := t.WriteText(c.App.Writer); err != nil || r.Output == "" {
		return err
	}
	_, err := fmt.Fprintf(c.App.Writer, "\n%s: %s of weights, loses %s dB on this set\n", r.Output, humanize.Bytes(uint64(r.Chosen.Bytes)), r.Chosen.Lost)
	return err
}

// adapters names what stands in for full experts.
func (r *loraPlan) adapters(p *evidence.Substitution) string {
	var names []string
	for e, o := range p.By {
		if o != e {
			names = append(names, r.Experts[o])
		}
	}
	slices.Sort(names)
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}
