// Validates manifests of Argo Workflows with Argo's own code, without a cluster.
//
//	validate FILE…
//
// It parses each Workflow, WorkflowTemplate, CronWorkflow and WorkflowEventBinding of the files strictly and validates
// it. A reference to a WorkflowTemplate is resolved among the files' templates of the same namespace. Other kinds are
// ignored. It prints one line per error and exits with 1 when there are errors.
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

// separator splits a file into YAML documents.
var separator = regexp.MustCompile(`(?m)^---`)

// templates holds the WorkflowTemplates of one namespace by name.
type templates map[string]*v1alpha1.WorkflowTemplate

// Get returns the template with a name.
func (known templates) Get(name string) (*v1alpha1.WorkflowTemplate, error) {
	if template, ok := known[name]; ok {
		return template, nil
	}
	return nil, fmt.Errorf("there is no WorkflowTemplate %q", name)
}

// manifests holds the objects of all files, and the errors in them.
type manifests struct {
	objects   []metav1.Object
	templates map[string]templates
	errors    []string
}

func main() {
	// The libraries return every error that they log.
	log.SetOutput(io.Discard)
	read := manifests{templates: map[string]templates{}}
	for _, path := range os.Args[1:] {
		read.add(path)
	}
	for _, object := range read.objects {
		read.validate(object)
	}
	if len(read.objects) == 0 && len(read.errors) == 0 {
		read.addError("the files", fmt.Errorf("hold no Workflow, WorkflowTemplate, CronWorkflow or WorkflowEventBinding"))
	}
	for _, line := range read.errors {
		fmt.Println(line)
	}
	if len(read.errors) > 0 {
		os.Exit(1)
	}
}

// add reads the objects of a file.
func (read *manifests) add(path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		read.addError(path, err)
		return
	}
	for _, document := range separator.Split(string(content), -1) {
		// The library silently drops a document that is not YAML.
		var anything any
		if err := yaml.UnmarshalStrict([]byte(document), &anything); err != nil {
			read.addError(path, err)
			continue
		}
		for _, parsed := range common.ParseObjects([]byte(document), true) {
			read.addObject(path, parsed)
		}
	}
}

// addObject adds an object, if it is of a kind that is validated.
func (read *manifests) addObject(path string, parsed common.ParseResult) {
	switch object := parsed.Object.(type) {
	case *v1alpha1.WorkflowTemplate:
		if read.templates[object.Namespace] == nil {
			read.templates[object.Namespace] = templates{}
		}
		read.templates[object.Namespace][object.Name] = object
	case *v1alpha1.Workflow, *v1alpha1.CronWorkflow, *v1alpha1.WorkflowEventBinding:
	case nil:
		if parsed.Err != nil {
			read.addError(path, parsed.Err)
		}
		return
	default:
		return
	}
	if parsed.Err != nil {
		read.addError(describe(parsed.Object), parsed.Err)
	}
	read.objects = append(read.objects, parsed.Object)
}

// validate records Argo's error about an object, if any.
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
		read.addError(describe(object), err)
	}
}

// submit returns the Workflow that Argo's server creates from a binding for an event without a payload, sent to the
// binding's own address. As on the server, each text is an expression, and a parameter needs one.
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
	submitted := binding.Spec.Submit
	if submitted == nil {
		return nil, fmt.Errorf("submits nothing")
	}
	template := submitted.WorkflowTemplateRef
	if _, err := known.Get(template.Name); err != nil {
		return nil, err
	}
	workflow := common.NewWorkflowFromWorkflowTemplate(template.Name, template.ClusterScope)
	workflow.Namespace = binding.Namespace
	if submitted.GenerateName != "" {
		if workflow.GenerateName, err = text(submitted.GenerateName, event); err != nil {
			return nil, fmt.Errorf("generateName: %w", err)
		}
	}
	for key, value := range submitted.Labels {
		if _, err := text(value, event); err != nil {
			return nil, fmt.Errorf("label %s: %w", key, err)
		}
	}
	if submitted.Arguments != nil {
		workflow.Spec.Arguments.Parameters, err = parameters(submitted.Arguments.Parameters, event)
	}
	return workflow, err
}

// parameters evaluates the parameters of a binding for an event.
func parameters(declared []v1alpha1.Parameter, event map[string]any) ([]v1alpha1.Parameter, error) {
	var evaluated []v1alpha1.Parameter
	for _, parameter := range declared {
		if parameter.ValueFrom == nil {
			return nil, fmt.Errorf("parameter %s has no valueFrom", parameter.Name)
		}
		value, err := text(parameter.ValueFrom.Event, event)
		if err != nil {
			return nil, fmt.Errorf("parameter %s: %w", parameter.Name, err)
		}
		evaluated = append(evaluated, v1alpha1.Parameter{Name: parameter.Name, Value: v1alpha1.AnyStringPtr(value)})
	}
	return evaluated, nil
}

// text evaluates an expression whose value must be a string.
func text(expression string, event map[string]any) (string, error) {
	program, err := expr.Compile(expression, expr.Env(event))
	if err != nil {
		return "", err
	}
	value, err := expr.Run(program, event)
	if err != nil {
		return "", err
	}
	result, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("%s is no text", expression)
	}
	return result, nil
}

// addError records an error as one line.
func (read *manifests) addError(where string, err error) {
	words := strings.Fields(string(bytes.ToValidUTF8([]byte(err.Error()), []byte("?"))))
	read.errors = append(read.errors, where+": "+strings.Join(words, " "))
}

// describe returns the kind and the name of an object.
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
