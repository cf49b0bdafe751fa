// Package ecs finds nothing in Amazon's ECS. The library for that would take a minute to build, and three gigabytes of
// memory.
package ecs

import (
	"errors"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// Provider is there to be named in a configuration.
type Provider struct{}

// Init fails.
func (*Provider) Init() error {
	return errors.New("there is no ECS in this build")
}

// Provide provides nothing.
func (*Provider) Provide(chan<- dynamic.Message, *safe.Pool) error {
	return nil
}
