// Package pairs finds out which picture of one folder belongs to which of
// another, by the names that public test sets give: equal names, RESIDE's
// 0001_0.8_0.2.png to 0001.png, Rain100's norain-001x2.png or rain-001.png to
// norain-001.png, SIDD's NOISY to GT, LOL's low to normal, and the trees of
// GoPro, SIDD and LOL. It says by which rule, and refuses what fits two ways.
package pairs
