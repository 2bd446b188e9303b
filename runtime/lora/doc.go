// Package lora makes low-rank adapters and weighs them against full experts.
//
// An adapter of any rank is made from two Restormers of one structure by truncated singular value decomposition
// ([Extract]), and written into a model folder ([Plan]). [Compare] measures full experts and adapters side by side:
// quality on samples, size, the time to load and to switch, and latency with adapters merged and un-merged; and
// verdictOf puts the numbers into a verdict.
package lora
