package degrade

import "sync"

// kindTable is the one list of kinds; each is described in the file of its name.
var kindTable = sync.OnceValue(func() *[kindCount]kindInfo {
	return &[kindCount]kindInfo{
		Haze:          hazeInfo(),
		Rain:          rainInfo(),
		Snow:          snowInfo(),
		Defocus:       defocusInfo(),
		Motion:        motionInfo(),
		LowLight:      lowLightInfo(),
		Poisson:       poissonInfo(),
		Noise:         noiseInfo(),
		JPEG:          jpegInfo(),
		LowResolution: lowResolutionInfo(),
		Impulse:       impulseInfo(),
		Camera:        cameraInfo(),
	}
})
