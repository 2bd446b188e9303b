// Package evidence answers questions about a pool with measurements of its own: whether the router takes risks wisely,
// whether its probabilities can be believed, whether all experts are needed, and what quality costs.
//
// All of it follows from records of every expert's result on every picture of a test set, as package evaluate makes
// them. Intervals are of 95 %, by a bootstrap over photos: crops of one photo are not independent.
package evidence
