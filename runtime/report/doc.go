// Package report is the shared look of what commands report: tables for terminals, spreadsheets, Markdown and the
// web, plots in one style, and self-contained HTML pages made of them.
//
// A page is one file that loads nothing from anywhere and holds no scripts. It follows the reader's light or dark
// setting and fits a phone. Everything put into it is escaped; drawings are checked against an allow-list.
package report
