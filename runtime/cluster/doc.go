// Package cluster finds the structure of a space of degradation features: which degradations belong together, how many
// groups there are, and a tree of groups of groups, from which a pool of experts is laid out.
//
// Features are the rows of a matrix. [KMeans] and [Spectral] are two independent ways to group them; [Sweep] measures
// both over a range of cluster counts by silhouettes, purity and mutualInformation; ward joins clusters bottom-up and
// [BuildTree] cuts the result into a tree of three levels; [PCA] and [TSNE] lay the space out in two dimensions and
// [Scatter] draws it.
//
// Results depend on the data, the options and their seed, not on the number of cores. Between processors they may
// differ in rounding, since matrix routines use what instructions there are.
package cluster
