// Package folders keeps account of folders of pictures: what is in them and what is passed over, which results are
// there and what they were made with, and which run is at work on which result.
package folders
