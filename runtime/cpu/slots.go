package cpu

// Sums over an image are formed in slots: portions that the image alone
// decides, each added up by one worker in a fixed order. Then the slots are
// added up. So results do not depend on the number of threads.

const (
	// slots is about how many portions an image has.
	slots = 64
	// fewestSlotPixels is what a portion has at least: adding up the sums of
	// fewer pixels would take longer than forming them.
	fewestSlotPixels = 64
	// mostSlotPixels bounds a portion, where it takes little memory to do so.
	mostSlotPixels = 2048
)

// slotPixels is how many of an image's pixels a portion should have.
func slotPixels(pixels int) int {
	return min(max(pixels/slots, fewestSlotPixels), mostSlotPixels)
}
