// Validates manifests of Argo Workflows as Argo itself does, without a cluster.
//
//	validate FILE…
//
// Each Workflow, WorkflowTemplate, CronWorkflow and WorkflowEventBinding of the files is read strictly and validated; a
// template of another object is looked up among those of the same files and namespace. Other kinds are left alone. One
// line an error.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/expr-lang/expr"
	log "github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v3/util/expr/argoexpr"
	"github.com/argoproj/argo-workflows/v3/workflow/common"
	"github.com/argoproj/argo-workflows/v3/workflow/templateresolution"
	"github.com/argoproj/argo-workflows/v3/workflow/validate"
)

// separator is where one document of a file ends.
var separator = regexp.MustCompile(`(?m)^---`)

// templates are the WorkflowTemplates of one namespace by name.
type templates map[string]*v1alpha1.WorkflowTemplate

// Get returns the template of a name.
func (known templates) Get(name string) (*v1alpha1.WorkflowTemplate, error) {
	if found, there := known[name]; there {
		return found, nil
	}
	return nil, fmt.Errorf("there is no WorkflowTemplate %q", name)
}

// manifests is what was read, and what is wrong with it.
type manifests struct {
	objects   []metav1.Object
	templates map[string]templates
	errors    []string
}

func main() {
	// The libraries log what they also return.
	log.SetOutput(io.Discard)
	read := manifests{templates: map[string]templates{}}
	for _, path := range os.Args[1:] {
		read.add(path)
	}
	for _, object := range read.objects {
		read.validate(object)
	}
	if len(read.objects) == 0 && len(read.errors) == 0 {
		read.refuse("the files", fmt.Errorf("hold no Workflow, WorkflowTemplate, CronWorkflow or WorkflowEventBinding"))
	}
	for _, line := range read.errors {
		fmt.Println(line)
	}
	if len(read.errors) > 0 {
		os.Exit(1)
	}
}

// add reads a file's objects.
func (read *manifests) add(path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		read.refuse(path, err)
		return
	}
	for _, document := range separator.Split(string(content), -1) {
		// What cannot be parsed at all the library would leave out.
		var anything any
		if err := yaml.UnmarshalStrict([]byte(document), &anything); err != nil {
			read.refuse(path, err)
			continue
		}
		for _, parsed := range common.ParseObjects([]byte(document), true) {
			read.keep(path, parsed)
		}
	}
}

// keep notes an object of a kind that is validated.
func (read *manifests) keep(path string, parsed common.ParseResult) {
	switch object := parsed.Object.(type) {
	case *v1alpha1.WorkflowTemplate:
		if read.templates[object.Namespace] == nil {
			read.templates[object.Namespace] = templates{}
		}
		read.templates[object.Namespace][object.Name] = object
	case *v1alpha1.Workflow, *v1alpha1.CronWorkflow, *v1alpha1.WorkflowEventBinding:
	case nil:
		if parsed.Err != nil {
			read.refuse(path, parsed.Err)
		}
		return
	default:
		return
	}
	if parsed.Err != nil {
		read.refuse(describe(parsed.Object), parsed.Err)
	}
	read.objects = append(read.objects, parsed.Object)
}

// validate notes what Argo refuses in an object.
func (read *manifests) validate(object metav1.Object) {
	known := read.templates[object.GetNamespace()]
	none := &templateresolution.NullClusterWorkflowTemplateGetter{}
	options := validate.ValidateOpts{}
	var err error
	switch object := object.(type) {
	case *v1alpha1.Workflow:
		err = validate.ValidateWorkflow(known, none, object, nil, options)
	case *v1alpha1.WorkflowTemplate:
		err = validate.ValidateWorkflowTemplate(known, none, object, nil, options)
	case *v1alpha1.CronWorkflow:
		err = validate.ValidateCronWorkflow(context.Background(), known, none, object, nil)
	case *v1alpha1.WorkflowEventBinding:
		var submitted *v1alpha1.Workflow
		if submitted, err = submit(object, known); err == nil {
			err = validate.ValidateWorkflow(known, none, submitted, nil, options)
		}
	}
	if err != nil {
		read.refuse(describe(object), err)
	}
}

// submit returns the Workflow that a binding makes of an event to its own address that says nothing, as Argo's server
// does: every text is an expression, and a parameter without one is refused.
func submit(binding *v1alpha1.WorkflowEventBinding, known templates) (*v1alpha1.Workflow, error) {
	event := map[string]any{
		"namespace":     binding.Namespace,
		"discriminator": binding.Name,
		"metadata":      map[string]any{},
		"payload":       map[string]any{},
	}
	matched, err := argoexpr.EvalBool(binding.Spec.Event.Selector, event)
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	if !matched {
		return nil, fmt.Errorf("the selector does not take an event to %q", binding.Name)
	}
	told := binding.Spec.Submit
	if told == nil {
		return nil, fmt.Errorf("submits nothing")
	}
	if _, err := known.Get(told.WorkflowTemplateRef.Name); err != nil {
		return nil, err
	}
	made := common.NewWorkflowFromWorkflowTemplate(told.WorkflowTemplateRef.Name, told.WorkflowTemplateRef.ClusterScope)
	made.Namespace = binding.Namespace
	if told.GenerateName != "" {
		if made.GenerateName, err = text(told.GenerateName, event); err != nil {
			return nil, fmt.Errorf("generateName: %w", err)
		}
	}
	for key, value := range told.Labels {
		if _, err := text(value, event); err != nil {
			return nil, fmt.Errorf("label %s: %w", key, err)
		}
	}
	if told.Arguments == nil {
		return made, nil
	}
	for _, parameter := range told.Arguments.Parameters {
		if parameter.ValueFrom == nil {
			return nil, fmt.Errorf("parameter %s has no valueFrom", parameter.Name)
		}
		value, err := text(parameter.ValueFrom.Event, event)
		if err != nil {
			return nil, fmt.Errorf("parameter %s: %w", parameter.Name, err)
		}
		given := v1alpha1.Parameter{Name: parameter.Name, Value: v1alpha1.AnyStringPtr(value)}
		made.Spec.Arguments.Parameters = append(made.Spec.Arguments.Parameters, given)
	}
	return made, nil
}

// text evaluates an expression that has to be a text.
func text(expression string, event map[string]any) (string, error) {
	program, err := expr.Compile(expression, expr.Env(event))
	if err != nil {
		return "", err
	}
	value, err := expr.Run(program, event)
	if err != nil {
		return "", err
	}
	found, is := value.(string)
	if !is {
		return "", fmt.Errorf("%s is no text", expression)
	}
	return found, nil
}

// refuse notes an error in one line.
func (read *manifests) refuse(where string, err error) {
	words := strings.Fields(string(bytes.ToValidUTF8([]byte(err.Error()), []byte("?"))))
	read.errors = append(read.errors, where+": "+strings.Join(words, " "))
}

// describe names an object: kind and name.
func describe(object metav1.Object) string {
	kind := "object"
	switch object.(type) {
	case *v1alpha1.Workflow:
		kind = "Workflow"
	case *v1alpha1.WorkflowTemplate:
		kind = "WorkflowTemplate"
	case *v1alpha1.CronWorkflow:
		kind = "CronWorkflow"
	case *v1alpha1.WorkflowEventBinding:
		kind = "WorkflowEventBinding"
	}
	if name := object.GetName(); name != "" {
		return kind + " " + name
	}
	return kind + " " + object.GetGenerateName() + "…"
}
